"""Foreign checkpoints: every key accounted for, nothing unpickled that could run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden import recipe
from palpate.checkpoints import import_checkpoint
from palpate.errors import ModelError
from palpate.model import SIZES, Network


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_sams_layouts_import_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sam.pth"
    checkpoint = recipe.sam_checkpoint(kind)
    torch.save(checkpoint, path)
    config, state, what = import_checkpoint(path)
    path.unlink()
    assert (config, what) == (SIZES[kind], f"sam_{kind}")
    with torch.device("meta"):
        assert state.keys() == Network(config).state_dict().keys()
    last = config.depth - 1
    for ours, theirs in (
        ("pos_embed", "pos_embed"), ("embedding.patch_weight", "patch_embed.proj.weight"),
        (f"blocks.{last}.attn.qkv.weight", f"blocks.{last}.attn.qkv.weight"),
        (f"blocks.{last}.mlp.lin2.bias", f"blocks.{last}.mlp.lin2.bias"),
        (f"blocks.{last}.attn.rel_pos_w", f"blocks.{last}.attn.rel_pos_w"),
    ):  # fmt: skip
        assert torch.equal(state[f"encoder.{ours}"], checkpoint[f"image_encoder.{theirs}"])
    tables = [state[f"encoder.blocks.0.attn.rel_pos_{axis}"] for axis in "hwd"]
    torch.testing.assert_close(tables[2], (tables[0] + tables[1]) / 2)
    assert state["encoder.depth_embed"].eq(1).all()
    assert state["encoder.blocks.0.attn.rel_pos_scale"] == 1


@pytest.fixture(scope="module")
def sam() -> dict[str, Any]:
    checkpoint: dict[str, Any] = recipe.sam_checkpoint("vit_b")
    return checkpoint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_encoder.blocks.3.norm1.bias": None}, "1 missing: encoder.blocks.3.norm1.bias"),
        ({"image_encoder.extra": torch.zeros(1)}, "1 left over: image_encoder.extra"),
        (
            {"image_encoder.blocks.0.norm1.bias": torch.zeros(5)},
            r"1 of another shape: encoder.blocks.0.norm1.bias \(5,\)",
        ),
        ({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 384)}, "position table is 384 wide; SAM's are 768"),
        ({"image_encoder.pos_embed": None}, "position table is None wide"),
    ],
)
def test_misfits_are_listed(tmp_path: Path, sam: dict[str, Any], change: dict[str, Any], message: str) -> None:
    changed = {k: v for k, v in (sam | change).items() if v is not None}
    torch.save(changed, tmp_path / "sam.pth")
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "sam.pth")


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"encoder_dict": Attack(tmp_path / "mark")}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="refused, because reading it would run code"):
        import_checkpoint(tmp_path / "bad.pth")
    assert not (tmp_path / "mark").exists()


def test_numpy_scalars_beside_the_tensors_are_allowed(tmp_path: Path) -> None:
    numbers = {"best_val_loss": np.float64(0.5), "loss": np.float32(0.25), "epoch": np.int64(3)}
    torch.save(numbers, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match=r"of no known layout \(keys such as best_val_loss, epoch, loss\)"):
        import_checkpoint(tmp_path / "numbers.pth")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "checkpoint"), (b"PK\x03\x04cut", "checkpoint"), (b"text", "checkpoint")]
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "bad.pth")


def test_missing_and_other_things(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list, not a dictionary"):
        import_checkpoint(tmp_path / "list.pth")
    torch.save({"encoder_dict": {}, "decoder_dict": {}, "feature_dict": []}, tmp_path / "release.pth")
    with pytest.raises(ModelError, match="must list four prompt encoders"):
        import_checkpoint(tmp_path / "release.pth")
