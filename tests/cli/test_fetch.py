"""`palpate fetch`, against a server on 127.0.0.1."""

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from palpate import weights
from palpate.cli import app
from palpate.weights import Asset, Hub, Official
from publisher import COMMIT, Publisher, publishing

CONTENT = np.random.default_rng(0).bytes(100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TENSORS = save({"vision_encoder.x": np.arange(5000, dtype=np.float32)})
FILES = {
    "/sam.pth": CONTENT,
    **{f"/facebook/sam-vit-base/resolve/{name}/model.safetensors": TENSORS for name in ("main", COMMIT)},
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("PALPATE_HOME", str(tmp_path))
    with publishing(files=dict(FILES), hub=True) as publisher:
        sources = (
            Hub("facebook/sam-vit-base", endpoint=publisher.url),
            Official(f"{publisher.url}/sam.pth", len(CONTENT), DIGEST),
        )
        monkeypatch.setattr(weights.assets, "ASSETS", table := dict(weights.ASSETS))
        monkeypatch.setattr(weights, "ASSETS", table)
        table["sam_vit_b"] = Asset("sam_vit_b", "weights", sources, "Apache-2.0", "a test")
        yield publisher


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_help_has_examples() -> None:
    shown = run("fetch", "--help").output
    for part in ("palpate fetch sam_vit_b", "--source", "--folder", "--list", "PALPATE_HOME"):
        assert part in shown


def test_from_the_hub(server: Publisher, tmp_path: Path) -> None:
    result = run("fetch", "sam_vit_b")
    assert result.exit_code == 0
    for part in (
        str(tmp_path / "weights" / "sam_vit_b" / "model.safetensors"), f"({len(TENSORS):,} bytes)",
        f"SHA-256 {hashlib.sha256(TENSORS).hexdigest()}, unverified: no published hash",
        "from the Hugging Face Hub; licence Apache-2.0",
    ):  # fmt: skip
        assert part in result.output


def test_the_official_file_for_machines(server: Publisher, tmp_path: Path) -> None:
    record = json.loads(run("fetch", "sam_vit_b", "--source", "official", "--folder", tmp_path / "f", "--json").stdout)
    (fetched,) = record["fetched"]
    path = tmp_path / "f" / "weights" / "sam_vit_b" / "sam.pth"
    assert fetched == {
        "name": "sam_vit_b", "path": str(path), "bytes": len(CONTENT), "sha256": DIGEST, "verified": True,
        "source": "official", "licence": "Apache-2.0",
    }  # fmt: skip
    assert path.read_bytes() == CONTENT
    assert list(record["seconds"]) == ["sam_vit_b"]


def test_the_fall_back_is_printed(server: Publisher) -> None:
    server.files = {"/sam.pth": CONTENT}
    result = run("fetch", "sam_vit_b")
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert f"taking {server.url}/sam.pth instead" in result.stderr
    assert "verified against the published hash" in result.stdout


def test_mistakes(server: Publisher) -> None:
    for arguments, message in (
        ((), "what should be fetched? There are sam_vit_b, sam_vit_l, sam_vit_h, medsam, dinov2_vits14"),
        (("sam_vit_b", "sam"), "nothing called 'sam' to fetch; there are sam_vit_b,"),
        (("medsam", "--source", "official"), "medsam has no source 'official'; choose hub"),
    ):
        result = run("fetch", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    assert server.asked == []


def test_the_list(server: Publisher, tmp_path: Path) -> None:
    run("fetch", "sam_vit_b")
    shown = run("fetch", "--list").output
    assert f"unverified, {tmp_path}/weights/sam_vit_b/model.safetensors" in shown
    assert shown.count("not here") == 7
    assert "CC BY-SA 4.0" in shown
    record = json.loads(run("fetch", "--list", "--json").stdout)
    assert record["home"] == str(tmp_path)
    assert [row["name"] for row in record["assets"] if row["path"]] == ["sam_vit_b"]
    (tmp_path / "weights" / "sam_vit_b" / "model.safetensors").write_bytes(TENSORS[:-1])
    assert "not a whole safetensors file" in run("fetch", "--list").output


@pytest.mark.parametrize("offline", [False, True])
def test_the_environment_that_the_hubs_users_know(server: Publisher, tmp_path: Path, offline: bool) -> None:
    """HF_ENDPOINT names another Hub, HF_HUB_OFFLINE closes it; both are read when its client is first imported."""
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": str(int(offline))}
    command = [sys.executable, "-m", "palpate.cli", "fetch", "sam_vit_b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    place = tmp_path / "weights" / "sam_vit_b" / "model.safetensors"
    assert (done.returncode, place.is_file()) == ((2, False) if offline else (0, True)), done.stderr
    if offline:
        assert "HF_HUB_OFFLINE is set" in done.stderr
        assert f"put it here as {place}" in done.stderr
        assert server.asked == []


def test_a_terminal_sees_a_bar(server: Publisher) -> None:
    """On a terminal, bytes and speed are shown while it runs."""
    main, end = pty.openpty()
    environment = os.environ | {"HF_ENDPOINT": server.url, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "palpate.cli", "fetch", "sam_vit_b"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=end, check=True)
    os.close(end)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert "fetching sam_vit_b" in shown
    assert "20.1/20.1 kB" in shown
