"""A model as one file."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from palpate.bundle import Bundle, describe, frozen_sha256, load, paper_preprocessing
from palpate.errors import ModelError, OutputError
from palpate.model import is_frozen
from small import CONFIG, small_bundle

CROP, CLICK = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[16, 16, 16]]])


def logits(bundle: Bundle) -> torch.Tensor:
    with torch.inference_mode():
        return bundle.network(CROP, CLICK)  # type: ignore[no-any-return]


def test_a_full_model_comes_back_as_it_was(tmp_path: Path) -> None:
    bundle = small_bundle()
    bundle.save(tmp_path / "m.safetensors")
    back = load(tmp_path / "m.safetensors")
    assert back.preprocessing == bundle.preprocessing
    assert back.provenance == bundle.provenance
    assert torch.equal(logits(back), logits(bundle))


def test_half_the_size_in_half_precision(tmp_path: Path) -> None:
    bundle = small_bundle()
    bundle.save(tmp_path / "full.safetensors")
    bundle.save(tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert 0.4 < sizes[1] / sizes[0] < 0.6
    torch.testing.assert_close(logits(load(tmp_path / "half.safetensors")), logits(bundle), rtol=0.05, atol=0.05)


def test_an_adapter_needs_its_base_and_no_other(tmp_path: Path) -> None:
    base, other = small_bundle(0), small_bundle(1)
    tuned = small_bundle(0)
    with torch.no_grad():
        for name, parameter in tuned.network.named_parameters():
            if not is_frozen(name):
                parameter.add_(0.01)
    base.save(tmp_path / "base.safetensors", dtype=torch.float32)
    path = tmp_path / "adapter.safetensors"
    tuned.save(path, adapter_only=True)
    assert path.stat().st_size < (tmp_path / "base.safetensors").stat().st_size
    for given in (base, tmp_path / "base.safetensors"):
        assert torch.equal(logits(load(path, base=given)), logits(tuned))
    with pytest.raises(ModelError, match="is an adapter and needs the model it was trained on"):
        load(path)
    with pytest.raises(ModelError, match="was trained on another base"):
        load(path, base=other)
    with pytest.raises(ModelError, match="is a full model and takes no base"):
        load(tmp_path / "base.safetensors", base=base)


def test_the_hash_is_of_the_frozen_tensors_alone() -> None:
    state = small_bundle().network.state_dict()
    before = frozen_sha256(state)
    assert frozen_sha256(dict(reversed(state.items()))) == before, "whatever their order"
    assert frozen_sha256({k: v for k, v in state.items() if is_frozen(k)}) == before
    state["encoder.pos_embed"] = state["encoder.pos_embed"] + 1e-6
    assert frozen_sha256(state) != before


def test_what_info_shows() -> None:
    record = describe(small_bundle())
    network = small_bundle().network
    assert record["parameters"]["all"] == sum(p.numel() for p in network.parameters())
    assert record["preprocessing"]["crop"] == [32, 32, 32]
    assert record["network"]["width"] == CONFIG.width
    json.dumps(record)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('/tmp/palpate-was-here', 'w').close()",))


@pytest.mark.parametrize("kind", ["text", "empty", "pickle", "foreign", "cut", "header", "newer", "tensors"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    small_bundle().save(path)
    good = path.read_bytes()
    messages = {
        "text": "not a Palpate model", "empty": "not a Palpate model", "pickle": "not a Palpate model",
        "foreign": "not a Palpate model", "cut": "not a Palpate model", "header": "header does not describe a model",
        "newer": "model format 99, this program reads 1; update palpate", "tensors": "tensors missing",
    }  # fmt: skip
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Attack()))
    elif kind == "cut":
        path.write_bytes(good[: len(good) // 2])
    else:
        tensors = {"a": torch.zeros(2)}
        headers = {"foreign": None, "header": {"format": 1}, "newer": {"format": 99}, "tensors": None}
        if kind == "tensors":
            size = int.from_bytes(good[:8], "little")
            text = json.loads(good[8 : 8 + size])["__metadata__"]["palpate"]
        else:
            text = json.dumps(headers[kind])
        save_file(tensors, path, metadata=None if kind == "foreign" else {"palpate": text})
    with pytest.raises(ModelError, match=messages[kind]):
        load(path)
    assert not Path("/tmp/palpate-was-here").exists()


def test_missing_models_and_names() -> None:
    with pytest.raises(ModelError, match="neither a file nor a bundled name"):
        load("palpate-huge")
    with pytest.raises(ModelError, match="is a folder"):
        load(Path(__file__).parent)
    with pytest.raises(ModelError, match="no intensities called 'mri'; there are kits21"):
        paper_preprocessing("mri")


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        small_bundle().save(tmp_path / "missing" / "m.safetensors")
