"""A network at work on crops: what is kept, what is let go, and what is told."""

import numpy as np
import pytest
import torch

from palpate.frame import Frame
from palpate.looks import Looks
from palpate.prompts import Click
from palpate.volume import Probability, Volume
from palpate.zoom import View
from small import judging_bundle, noise_scan, prompted_bundle, small_bundle


def looks(volume_seed: int = 0, judging: bool = False) -> tuple[Looks, View]:
    bundle = judging_bundle() if judging else prompted_bundle()
    made = Looks(bundle.network, bundle.preprocessing, torch.device("cpu"), "float32")
    scan = noise_scan(volume_seed)
    made.turn_to(scan)
    return made, View(Frame.centred(scan.grid, (8, 7, 5), bundle.preprocessing), 1.0)


def moved(view: View, by: int) -> View:
    return View(view.frame.part((by, 0, 0), view.frame.size), 1.0)


def test_a_crop_is_encoded_once_until_another_scan() -> None:
    made, view = looks()
    shares: list[float] = []
    made.progress = shares.append
    first = made.seen(view, [Click((8, 7, 5))])
    assert shares == [0.25, 0.5, 0.75, 1.0], "four blocks"
    assert torch.equal(made.seen(view, [Click((8, 7, 5))]), first)
    assert not torch.equal(made.seen(view, [Click((2, 3, 5))]), first)
    assert len(shares) == 4
    made.turn_to(noise_scan(1))
    assert made.kept == 0
    assert not torch.equal(made.seen(view, [Click((8, 7, 5))]), first)
    assert len(shares) == 8


def test_the_crop_not_asked_for_the_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made, view = looks()
    features = made.encoded(view.frame)
    monkeypatch.setattr("palpate.looks.KEPT_BYTES", 2 * made._feature_bytes)
    made.encoded(moved(view, 1).frame)
    assert made.encoded(view.frame) is features, "asked for again"
    made.encoded(moved(view, 2).frame)
    assert made.kept == 2
    assert made.encoded(view.frame) is features
    shares: list[float] = []
    made.progress = shares.append
    made.encoded(moved(view, 1).frame)
    assert shares, "it had gone"


def test_what_is_kept_again_counts_once() -> None:
    made, view = looks()
    features = made.encoded(view.frame)
    made.keep(view.frame, features)
    assert made.kept == 1


def test_what_a_network_expects() -> None:
    made, view = looks()
    seen = made.seen(view, [Click((8, 7, 5))])
    assert made.expected(view, seen) is None, "it has no head for that"
    made, view = looks(judging=True)
    expected = made.expected(view, seen)
    assert expected is not None
    assert 0 < expected < 1


def test_a_probability_is_cut_without_what_lies_outside_the_scan() -> None:
    made, view = looks()
    scan = noise_scan()
    full = Probability(np.ones(scan.shape, np.float32), (0, 0, 0), scan.grid, None)
    inside = view.frame.extract(scan.array)[1]
    assert not inside.all()
    torch.testing.assert_close(made.cut(full, view), inside.float())


def test_a_network_of_the_paper_sees_clicks_alone() -> None:
    bundle, scan = small_bundle(), noise_scan()
    made = Looks(bundle.network, bundle.preprocessing, torch.device("cpu"), "float32")
    made.turn_to(scan)
    seen = made.seen(View(Frame.centred(scan.grid, (8, 7, 5), bundle.preprocessing), 1.0), [Click((8, 7, 5))])
    assert seen.shape == (32, 32, 32)
    assert ((seen >= 0) & (seen <= 1)).all()


def test_a_first_look_is_taken_mirrored_too_where_the_model_asks_for_it() -> None:
    """The mean of a look and of the look at the mirror image; with a prior, of which corrections come, one look."""
    plain, view = looks()
    bundle, scan = prompted_bundle(), noise_scan()
    settings = bundle.preprocessing.model_copy(update={"mirror": True})
    made = Looks(bundle.network, settings, torch.device("cpu"), "float32")
    made.turn_to(scan)
    click = [Click((5, 7, 5))]
    once, mirrored = plain.seen(view, click), plain.seen(View(view.frame.mirrored(), 1.0), click)
    assert not torch.allclose(once, mirrored.flip(-1), atol=1e-3)
    torch.testing.assert_close(made.seen(view, click), (once + mirrored.flip(-1)) / 2)
    prior = Probability(np.full(scan.shape, 0.3, np.float32), (0, 0, 0), scan.grid, None)
    torch.testing.assert_close(made.seen(view, click, prior), plain.seen(view, click, prior))


def test_a_scan_and_its_mirror_image_have_mirrored_masks() -> None:
    """The crop's voxels are mirrored onto each other, so a symmetric question has a symmetric answer."""
    bundle, scan = prompted_bundle(), noise_scan()
    settings = bundle.preprocessing.model_copy(update={"mirror": True})
    frame = Frame.centred(scan.grid, (8, 7, 5), settings)
    both = []
    for array in (scan.array, scan.array[::-1].copy()):
        made = Looks(bundle.network, settings, torch.device("cpu"), "float32")
        made.turn_to(Volume(array, scan.affine))
        x = 8 if array is scan.array else scan.shape[0] - 1 - 8  # midway between no two voxels of the crop
        centred = frame if array is scan.array else mirrored_about(frame, scan.shape[0])
        both.append(made.seen(View(centred, 1.0), [Click((x, 7, 5))]))
    torch.testing.assert_close(both[0], both[1].flip(-1), atol=1e-4, rtol=0)


def mirrored_about(frame: Frame, edge: int) -> Frame:
    """The mirror image of a crop in a scan `edge` voxels wide along x, which the crop's W runs along."""
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirror[0, 3] = edge - 1
    return Frame(frame.grid, frame.size, mirror @ frame.mirrored().to_scan)
