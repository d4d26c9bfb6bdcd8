"""Lesions proposed without a prompt: windows over whole scans, pieces of what exceeds 0.5, their order."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from palpate.automatic import Proposal, Proposer, proposals, windows
from palpate.bundle import Bundle, Provenance, without_prompt_encoder
from palpate.errors import CancelledError, DeviceError, ModelError, SettingsError
from palpate.frame import ClipZScore, CropPercentiles, Frame, Normalisation, Preprocessing
from palpate.inference import InferenceSettings, TorchRuntime
from palpate.masks import Mask, Probability
from palpate.model import Features, Network
from palpate.model.decoder import Prepared
from palpate.phantom import oblique_affine
from palpate.predictor import Predictor
from palpate.volume import Grid, Index3, Volume
from small import CONFIG, CPU, small_bundle

FIXED = ClipZScore(low=0, high=1000, mean=500, std=100)


class Bright(Network):
    """Sees a lesion where a normalised crop is bright: its value is the lesion's logit; the crops are kept."""

    def __init__(self) -> None:
        super().__init__(CONFIG.model_copy(update={"promptless": True}))
        self.crops: list[Tensor] = []

    def encode(self, crop: Tensor, progress: Callable[[float], None] | None = None) -> Features:
        self.crops.append(crop.clone())
        return Features(crop, Prepared(crop, (), (0, 0, 0)))

    def decode(
        self,
        features: Features,
        clicks: Tensor | None = None,
        labels: Tensor | None = None,
        maps: Tensor | None = None,
    ) -> Tensor:
        assert clicks is labels is maps is None
        return torch.cat([torch.zeros_like(features.deepest), features.deepest], dim=1)


def stub(crop: Index3 = (32, 32, 32), spacing: float = 2.0, normalisation: Normalisation = FIXED) -> Proposer:
    settings = Preprocessing(crop=crop, spacing=(spacing,) * 3, normalisation=normalisation)
    return Proposer(Bundle(Bright().eval(), settings, Provenance(name="bright", origin="a test")), CPU)


def crops(proposer: Proposer) -> list[Tensor]:
    runtime = proposer.runtime
    assert isinstance(runtime, TorchRuntime)
    assert isinstance(runtime.network, Bright)
    return runtime.network.crops


def ball(volume: Volume, centre: npt.ArrayLike, radius: float) -> npt.NDArray[np.bool_]:
    """Voxels within a distance (mm) of a place (RAS mm)."""
    index = np.moveaxis(np.indices(volume.shape), 0, -1)
    return np.asarray(np.linalg.norm(volume.grid.to_mm(index) - np.asarray(centre), axis=-1) <= radius)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR"])
def test_two_balls_in_an_oblique_scan(orientation: str) -> None:
    shape = (62, 50, 34)
    affine = oblique_affine(shape, (1.5, 1.8, 3), orientation=orientation, angles_deg=(12, -8, 15))
    volume = Volume(np.zeros(shape, np.float32), affine)
    faint, strong = volume.grid.to_mm((16, 15, 9)), volume.grid.to_mm((45, 33, 24))
    volume.array[ball(volume, faint, 14)] = 700
    volume.array[ball(volume, strong, 10)] = 950
    proposer = stub()
    shares: list[float] = []
    first, second = proposer.propose(volume, progress=shares.append)
    for found, centre, radius in ((first, strong, 10), (second, faint, 14)):
        places = np.argwhere(found.mask.full())
        assert np.linalg.norm(volume.grid.to_mm(places).mean(axis=0) - centre) < 0.5
        assert found.mask.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.12)
        assert np.linalg.norm(volume.grid.to_mm(found.click.index) - centre) < 3, "the click is the middle"
        assert found.mask.full()[found.click.index]
    assert 1 > first.score > second.score > 0.5, "the brighter one is surer, though it is smaller"
    size = Frame.whole(volume.grid, proposer.runtime.preprocessing).size
    assert len(crops(proposer)) == windows(size, (32, 32, 32)) > 4
    assert shares == pytest.approx(np.arange(1, len(shares) + 1) / len(shares))
    assert len(shares) == len(crops(proposer))


def test_tiling_equals_one_window_where_the_scan_fits_one() -> None:
    """A random network, percentiles of the crop's own: the very crop, but for how it was stitched."""
    bundle = without_prompt_encoder(small_bundle())
    assert isinstance(bundle.preprocessing.normalisation, CropPercentiles)
    affine = oblique_affine((20, 30, 12), (3, 2, 4), orientation="LPI", angles_deg=(9, -5, 8))
    volume = Volume(np.random.default_rng(0).normal(100, 30, (20, 30, 12)).astype(np.float32), affine)
    whole = Frame.whole(volume.grid, bundle.preprocessing)
    d, h, w = (-((32 - n) // 2) for n in whole.size)
    window = whole.part((d, h, w), (32, 32, 32))
    with torch.inference_mode():
        image = window.image(volume.array, bundle.preprocessing.normalisation)
        logits = bundle.network.decode(bundle.network.encode(image))
    expected = window.resample_to_scan(logits[0].softmax(dim=0)[1], None).full()
    got = Proposer(bundle, CPU).probability(volume)
    assert got.array.shape == volume.shape
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got.array, expected, atol=1e-4)


def test_what_is_outside_a_small_scan_is_zero_and_not_counted() -> None:
    proposer = stub((16, 16, 16), 1.0, CropPercentiles(low=0, high=100))
    volume = Volume(np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8) + 1000, np.eye(4))
    proposer.probability(volume)
    (crop,) = crops(proposer)
    assert crop.shape == (1, 1, 16, 16, 16)
    inside = crop[0, 0, 4:12, 5:11, 6:10]
    assert crop.count_nonzero() == inside.count_nonzero() == 4 * 6 * 8
    assert inside.mean() == pytest.approx(0, abs=1e-5)
    assert inside.std(correction=0) == pytest.approx(1, abs=1e-5)


def test_each_window_is_normalised_by_itself() -> None:
    volume = Volume(np.ones((16, 16, 40), np.float32), np.eye(4))
    volume.array[:, :, :20] = np.random.default_rng(0).normal(0, 1, (16, 16, 20))
    volume.array[:, :, 20:] = np.random.default_rng(1).normal(900, 50, (16, 16, 20))
    proposer = stub((16, 16, 16), 1.0, CropPercentiles())
    proposer.probability(volume)
    means = [float(crop.mean()) for crop in crops(proposer)]
    assert len(means) == 4
    assert means == pytest.approx([0] * 4, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "count"), [((8, 16, 16), 1), ((17, 16, 3), 2), ((24, 24, 25), 2 * 2 * 3), ((40, 16, 16), 4)]
)
def test_windows_are_counted(size: Index3, count: int) -> None:
    proposer = stub((16, 16, 16), 1.0)
    d, h, w = size
    proposer.probability(Volume(np.zeros((w, h, d), np.float32), np.eye(4)))
    assert windows(size, (16, 16, 16)) == count == len(crops(proposer))


def by_hand() -> Probability:
    """Voxels of 1 mL: one alone (0.95), two that touch by a corner (0.6, 0.8), four in a row (0.9), two faint ones."""
    array = np.zeros((9, 9, 9), np.float32)
    array[0, 0, 0] = 0.95
    array[4, 4, 4], array[5, 5, 5] = 0.6, 0.8
    array[0, 8, 2:6] = 0.9
    array[8, 0, 0:2] = 0.5
    return Probability(array, (1, 2, 3), Grid((12, 12, 12), np.diag([10.0, 10, 10, 1])))


def test_pieces_by_hand() -> None:
    found = proposals(by_hand(), 2)
    assert [one.mask.voxels for one in found] == [4, 2], "a voxel alone is too small, 0.5 does not exceed 0.5"
    assert [one.score for one in found] == pytest.approx([0.9, 0.7])
    assert found[0].mask.bounds == ((1, 10, 5), (1, 10, 8))
    assert found[1].mask.bounds == ((5, 6, 7), (6, 7, 8))
    alone = proposals(by_hand(), 0)[0]
    assert alone.score == pytest.approx(0.95)
    assert alone.click.index == (1, 2, 3)
    assert proposals(by_hand(), 4.5) == []
    assert len(proposals(by_hand())) == 3, "0.1 mL are left out by default"


def test_equal_scores_are_ordered_by_size_and_then_by_place() -> None:
    array = np.zeros((9, 3, 3), np.float32)
    array[0, 0, 0] = array[4, 0, 0:2] = array[8, 0, 0] = 0.75
    found = proposals(Probability(array, (0, 0, 0), Grid((9, 3, 3), np.eye(4))), 0)
    assert [(one.mask.voxels, one.mask.start) for one in found] == [(2, (4, 0, 0)), (1, (0, 0, 0)), (1, (8, 0, 0))]


def test_the_deepest_voxel_counts_millimetres() -> None:
    """A plate of 5 x 5 voxels in one thick slice, 3 mm from its edge at most, and a block of 3 x 3 x 3, 2 mm deep."""
    array = np.zeros((8, 5, 3), bool)
    array[:5, :, 1] = True
    array[5:, 1:4] = True
    piece = Proposal(Mask(array, (10, 20, 30), Grid((50, 50, 50), np.diag([1.0, 1, 10, 1]))), 0.9)
    assert piece.click.index == (12, 22, 31)


def by_scipy(probability: Probability, least_ml: float) -> list[tuple[float, Any, Any]]:
    """The same pieces by scipy's labelling, which numbers them by their first voxel."""
    pieces, _ = ndimage.label(probability.array > 0.5, structure=np.ones((3, 3, 3), dtype=bool))
    found = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[box] == number
        x, y, z = (part.start + first for part, first in zip(box, probability.start, strict=True))
        mask = Mask(piece, (x, y, z), probability.grid)
        if mask.volume_ml >= least_ml:
            found.append((float(probability.array[box][piece].mean(dtype=np.float64)), mask))
    found.sort(key=lambda one: (-one[0], -one[1].voxels, one[1].start))
    return [(score, mask.start, mask.array.tolist()) for score, mask in found]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.05, 0.12, 0.3])
def test_another_labelling_finds_the_same_pieces_in_the_same_order(share: float, order: Literal["C", "F"]) -> None:
    """Many pieces of equal size, score and first corner: coarse probabilities on noise."""
    rng = np.random.default_rng(3)
    array = np.where(rng.random((24, 21, 18)) < share, rng.integers(3, 5, (24, 21, 18)) / 4, 0)
    probability = Probability(
        np.asarray(array, np.float32, order=order), (1, 2, 3), Grid((30, 30, 30), np.diag([2.0, 3, 4, 1]))
    )
    found = [(one.score, one.mask.start, one.mask.array.tolist()) for one in proposals(probability, 0.03)]
    assert len(found) > 10 or share == 0.3
    assert found == by_scipy(probability, 0.03)


def test_what_cannot_be_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    automatic, volume = without_prompt_encoder(small_bundle()), Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(ModelError, match=r"small: takes prompts and proposes nothing.*--automatic --out RUN"):
        Proposer(small_bundle(), CPU)
    with pytest.raises(ModelError, match=r"small: an automatic model takes no prompts: use `palpate propose`"):
        Predictor(automatic, CPU)
    with pytest.raises(DeviceError, match="device 'abacus' is not here"):
        Proposer(automatic, InferenceSettings(device="abacus"))
    with pytest.raises(ModelError, match="no model 'gone'"):
        Proposer("gone", CPU)
    proposer = stub()
    for least in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=rf"a smallest volume of {least} mL; give 0 or more"):
            proposer.propose(volume, least)
        with pytest.raises(SettingsError, match="give 0 or more"):
            proposals(by_hand(), least)
    assert crops(proposer) == [], "it is said before the work"
    automatic.save(tmp_path / "automatic.safetensors")
    assert Proposer(tmp_path / "automatic.safetensors", CPU).propose(volume) == []
    monkeypatch.setitem(sys.modules, "monai.inferers", None)
    with pytest.raises(
        SettingsError, match=r"need the package monai, which is not installed; .*run pip install .*\[auto\]'"
    ):
        Proposer(automatic, CPU)


def test_proposing_stops_where_it_is_cancelled() -> None:
    volume = Volume(np.zeros((62, 50, 34), np.float32), np.diag([1.5, 1.8, 3.0, 1.0]))
    proposer = stub()
    with pytest.raises(CancelledError, match="nothing was changed"):
        proposer.probability(volume, cancel=lambda: len(crops(proposer)) == 2)
    assert len(crops(proposer)) == 2
