"""The decoder's kept share against the plain concatenation."""

import pytest
import torch
import torch.nn.functional as F

from palpate.model import NetworkConfig
from palpate.model.decoder import MaskDecoder


@pytest.mark.parametrize("token_voxels", [4, 8])
def test_cached_part_equals_concatenation(token_voxels: int) -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(NetworkConfig(neck_width=16, decoder_width=6, token_voxels=token_voxels)).double()
    crop = torch.randn(2, 1, 32, 16, 32, dtype=torch.float64)
    grid = [n // token_voxels for n in crop.shape[2:]]
    maps = tuple(torch.randn(2, 16, *grid, dtype=torch.float64) for _ in range(4))
    half = F.interpolate(crop, size=[2 * n for n in grid], mode="trilinear", align_corners=False)
    heads = [head(m) for head, m in zip(decoder.heads, maps, strict=True)]
    joint = F.relu(F.instance_norm(decoder.joint(torch.cat([*heads, half], 1))))
    plain = F.interpolate(decoder.classify(joint), size=crop.shape[2:], mode="trilinear", align_corners=True)
    torch.testing.assert_close(decoder(decoder.prepare(maps, crop), maps[3]).logits, plain)


def test_the_first_three_maps_and_the_crop_are_cached_and_the_deepest_is_not() -> None:
    decoder = MaskDecoder(NetworkConfig(neck_width=16, decoder_width=4))
    maps = tuple(torch.randn(1, 16, 4, 4, 4) for _ in range(4))
    crop = torch.randn(1, 1, 16, 16, 16)
    kept = decoder.prepare(maps, crop).partial
    assert torch.equal(kept, decoder.prepare((*maps[:3], torch.zeros_like(maps[3])), crop).partial)
    for index in range(3):
        changed = tuple(torch.zeros_like(m) if i == index else m for i, m in enumerate(maps))
        assert not torch.equal(kept, decoder.prepare(changed, crop).partial)


def test_detail_path_reaches_single_voxels() -> None:
    """A change of one voxel moves its own logit: half the crop's resolution would spread it."""
    torch.manual_seed(0)
    decoder = MaskDecoder(NetworkConfig(neck_width=16, decoder_width=4, token_voxels=8, detail_width=4))
    assert decoder.detail is not None
    crop = torch.randn(1, 1, 16, 16, 16)
    levels = decoder.detail.descend(crop)
    assert [tuple(level.shape[1:]) for level in levels] == [(4, 16, 16, 16), (8, 8, 8, 8), (16, 4, 4, 4)]
    x = torch.randn(1, 4, 4, 4, 4)
    before = decoder.detail.ascend(x, levels)
    changed = crop.clone()
    changed[0, 0, 9, 4, 7] += 1
    moved = (decoder.detail.ascend(x, decoder.detail.descend(changed)) - before).abs().amax(dim=1)[0]
    # Norms of the whole crop move every voxel a little; the changed voxel's surroundings move most.
    assert moved.shape == (16, 16, 16)
    near = moved[7:12, 2:7, 5:10].amax()
    assert near == moved.amax()
    assert near > 5 * moved.median()
