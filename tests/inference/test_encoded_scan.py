"""One scan on a runtime: what is encoded, what is cached, and what a network predicts in a crop."""

import gc
from dataclasses import replace

import numpy as np
import torch

from fakes import FakeRuntime, faking, truth_in
from palpate.bundle import Bundle
from palpate.frame import Frame, Preprocessing
from palpate.inference import ByteCache, EncodedScan, TorchRuntime, View
from palpate.masks import Probability
from palpate.prompts import Click
from palpate.volume import Volume
from small import judging_bundle, noise_scan, prompted_bundle, small_bundle

CLICK = [Click((8, 7, 5))]


def encoded(bundle: Bundle, volume: Volume, cache: ByteCache | None = None) -> EncodedScan:
    return EncodedScan(TorchRuntime(bundle, "cpu"), volume, ByteCache(2**29) if cache is None else cache)


def on_noise(bundle: Bundle | None = None, cache: ByteCache | None = None) -> tuple[EncodedScan, View]:
    bundle, scan = bundle or prompted_bundle(), noise_scan()
    return encoded(bundle, scan, cache), View(Frame.centred(scan.grid, (8, 7, 5), bundle.preprocessing), 1.0)


def shifted(view: View, by: int) -> View:
    return View(view.frame.part((by, 0, 0), view.frame.size), 1.0)


def mirroring(bundle: Bundle) -> Bundle:
    return replace(bundle, preprocessing=bundle.preprocessing.model_copy(update={"mirror": True}))


def test_a_crop_is_encoded_once() -> None:
    scan, view = on_noise()
    shares: list[float] = []
    first = scan.predict_crop(view, CLICK, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0], "four blocks"
    assert torch.equal(scan.predict_crop(view, CLICK, progress=shares.append), first)
    assert not torch.equal(scan.predict_crop(view, [Click((2, 3, 5))], progress=shares.append), first)
    assert len(shares) == 4
    other = encoded(prompted_bundle(), noise_scan(1), scan.cache)
    assert not torch.equal(other.predict_crop(view, CLICK, progress=shares.append), first)
    assert len(shares) == 8


def test_the_crop_not_used_for_the_longest_time_goes_first() -> None:
    cache = ByteCache(2**29)
    scan, view = on_noise(cache=cache)
    features = scan.features(view.frame)
    cache.resize(2 * features.nbytes)
    scan.features(shifted(view, 1).frame)
    assert scan.features(view.frame) is features, "used again"
    scan.features(shifted(view, 2).frame)
    assert len(cache) == 2
    assert scan.features(view.frame) is features
    shares: list[float] = []
    scan.features(shifted(view, 1).frame, shares.append)
    assert shares, "it had gone"


def test_features_are_cached_again_without_counting_twice() -> None:
    cache = ByteCache(2**29)
    scan, view = on_noise(cache=cache)
    features = scan.features(view.frame)
    scan.cache_features(view.frame, features)
    assert (len(cache), cache.nbytes) == (1, features.nbytes)
    cache.discard(scan.number)
    scan.cache_features(view.frame, features)
    assert scan.features(view.frame) is features


def test_a_scan_that_nobody_holds_leaves_the_cache() -> None:
    cache = ByteCache(2**29)
    scan, view = on_noise(cache=cache)
    other, _ = on_noise(cache=cache)
    scan.features(view.frame)
    other.features(view.frame)
    assert len(cache) == 2
    del scan
    gc.collect()
    assert len(cache) == 1


def test_what_a_model_predicts_of_its_overlap() -> None:
    scan, view = on_noise()
    probability = scan.predict_crop(view, CLICK)
    assert scan.predicted_iou(view, probability) is None, "it has no head for that"
    scan, view = on_noise(judging_bundle())
    predicted = scan.predicted_iou(view, probability)
    assert predicted is not None
    assert 0 < predicted < 1


def test_a_probability_in_a_crop_is_empty_outside_the_scan() -> None:
    scan, view = on_noise()
    full = Probability(np.ones(scan.volume.shape, np.float32), (0, 0, 0), scan.volume.grid, None)
    inside = view.frame.extract(scan.volume.array)[1]
    assert not inside.all()
    torch.testing.assert_close(scan.crop_probability(full, view), inside.float())


def test_a_network_of_the_paper_takes_clicks_alone() -> None:
    scan, view = on_noise(small_bundle())
    probability = scan.predict_crop(view, CLICK)
    assert probability.shape == (32, 32, 32)
    assert ((probability >= 0) & (probability <= 1)).all()


def test_without_an_initial_mask_a_model_may_predict_the_mirror_image_too() -> None:
    """The mean of both; with an initial mask, which corrections start from, the crop alone."""
    plain, view = on_noise()
    scan, _ = on_noise(mirroring(prompted_bundle()))
    click = [Click((5, 7, 5))]
    once, mirrored = plain.predict_crop(view, click), plain.predict_crop(View(view.frame.mirrored(), 1.0), click)
    assert not torch.allclose(once, mirrored.flip(-1), atol=1e-3)
    shares: list[float] = []
    both = scan.predict_crop(view, click, progress=shares.append)
    torch.testing.assert_close(both, (once + mirrored.flip(-1)) / 2)
    assert shares == [n / 8 for n in range(1, 9)]
    grid = scan.volume.grid
    initial = Probability(np.full(grid.shape, 0.3, np.float32), (0, 0, 0), grid, None)
    torch.testing.assert_close(scan.predict_crop(view, click, initial), plain.predict_crop(view, click, initial))


def test_a_scan_and_its_mirror_image_have_mirrored_masks() -> None:
    """The crop's voxels are mirrored onto each other, so a symmetric question has a symmetric answer."""
    bundle, volume = mirroring(prompted_bundle()), noise_scan()
    frame = Frame.centred(volume.grid, (8, 7, 5), bundle.preprocessing)
    both = []
    for array in (volume.array, volume.array[::-1].copy()):
        scan = encoded(bundle, Volume(array, volume.affine))
        x = 8 if array is volume.array else volume.shape[0] - 1 - 8  # midway between no two voxels of the crop
        centred = frame if array is volume.array else mirrored_about(frame, volume.shape[0])
        both.append(scan.predict_crop(View(centred, 1.0), [Click((x, 7, 5))]))
    torch.testing.assert_close(both[0], both[1].flip(-1), atol=1e-4, rtol=0)


def mirrored_about(frame: Frame, edge: int) -> Frame:
    """The mirror image of a crop in a scan `edge` voxels wide along x, which the crop's W runs along."""
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirror[0, 3] = edge - 1
    return Frame(frame.grid, frame.size, mirror @ frame.mirrored().to_scan)


def test_padding_is_outside_the_scan_by_the_newest_rules() -> None:
    """The same body, padded: its crop is that of the body alone; by the first rules the fill is a value."""
    body = Volume(np.random.default_rng(0).normal(0, 100, (40, 40, 40)).astype(np.float32), np.eye(4))
    array = np.full((80, 80, 80), -3024, dtype=np.float32)
    array[20:60, 20:60, 20:60] = body.array
    images = []
    for volume, centre, rules in ((body, 20, 2), (Volume(array, np.eye(4)), 40, 2), (Volume(array, np.eye(4)), 40, 1)):
        runtime = FakeRuntime(lambda prompts: torch.zeros(prompts.view.frame.size))
        scan = EncodedScan(runtime, volume, ByteCache(2**20), rules)
        scan.features(Frame.centred(volume.grid, (centre,) * 3, runtime.preprocessing))
        images.append(runtime.encoded[0])
    padded, as_values = ((image - images[0])[..., 7:25, 7:25, 7:25].abs().max() for image in images[1:])
    assert padded < 0.01  # a corner is rounded
    assert as_values > 0.5


def test_scans_on_one_runtime_share_no_features() -> None:
    volume = noise_scan()
    predictor, runtime = faking(truth_in(np.ones(volume.shape, bool)), Preprocessing.model_validate(PREPROCESSING))
    first, second = predictor.encode_scan(volume), predictor.encode_scan(volume)
    frame = Frame.centred(volume.grid, (8, 7, 5), runtime.preprocessing)
    assert first.features(frame) is first.features(frame)
    assert second.features(frame) is not first.features(frame)
    assert len(runtime.encoded) == 2
    assert first.number != second.number


PREPROCESSING = small_bundle().preprocessing
