"""What operations cost, counted on a model that is no network: crops encoded, crops decoded, bytes of the journal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FakeRuntime, faking
from palpate.errors import CancelledError
from palpate.inference import CACHE
from palpate.inference.crop_prompts import CropPrompts
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompts import Click
from palpate.session import Session
from palpate.volume import Volume
from small import PREPROCESSING

SCAN = Volume(np.zeros((60, 50, 40), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
PLACES = [(x, y, z) for x in (12, 30, 48) for y in (12, 25, 38) for z in (10, 20, 30)]


def cubes(prompts: CropPrompts) -> torch.Tensor:
    """Draws a cube of 5 voxels at the last prompt, beside what there was."""
    frame = prompts.view.frame
    drawn = torch.zeros(frame.size)
    if prompts.initial is not None:
        values, inside = frame.extract(prompts.initial)
        drawn = values * inside
    d, h, w = (round(float(v)) for v in frame.crop_index(prompts.prompts[-1].places)[0])
    drawn[max(d - 2, 0) : d + 3, max(h - 2, 0) : h + 3, max(w - 2, 0) : w + 3] = 0.9
    return drawn


def fake() -> tuple[Predictor, FakeRuntime]:
    return faking(cubes, PREPROCESSING.model_copy(update={"crop": (16, 16, 16), "spacing": (4.0, 4.0, 4.0)}))


def begun(folder: Path | None = None) -> tuple[Session, FakeRuntime]:
    predictor, runtime = fake()
    return Session(predictor, SCAN, folder), runtime


def near(place: tuple[int, int, int], count: int) -> Click:
    x, y, z = place
    return Click((x + count % 3, y + count // 3 % 3, z + count // 9 % 3))


@contextmanager
def cache_of(nbytes: int) -> Iterator[None]:
    """The process's cache with another bound."""
    before = CACHE.max_bytes
    CACHE.resize(nbytes)
    try:
        yield
    finally:
        CACHE.resize(before)


def test_a_further_prompt_is_one_step_whatever_lies_between() -> None:
    session, runtime = begun()
    session.add("A")
    session.add("B")
    for count in range(6):
        session.add_prompt(1, near(PLACES[0], count))
    for count in range(2):
        session.add_prompt(2, near(PLACES[8], count))
    before = len(runtime.decoded)
    session.add_prompt(1, near(PLACES[0], 6))
    assert len(runtime.decoded) == before + 1


def test_replacing_and_undoing_find_what_is_known() -> None:
    session, runtime = begun()
    session.add("A")
    numbers = [session.add_prompt(1, near(PLACES[0], count)) for count in range(4)]
    before, mask = len(runtime.decoded), session.mask(1).full()
    session.replace_prompt(1, numbers[3], near(PLACES[0], 5))
    assert len(runtime.decoded) == before + 1
    session.undo()
    assert np.array_equal(session.mask(1).full(), mask)
    assert session.prediction(1) is not None
    session.redo()
    session.prediction(1)
    session.undo()
    session.remove_prompt(1, numbers[3])
    session.add_prompt(1, near(PLACES[0], 3))
    assert len(runtime.decoded) == before + 1
    assert np.array_equal(session.mask(1).full(), mask)


def test_switching_between_lesions_computes_nothing() -> None:
    session, runtime = begun()
    for place in PLACES[::9]:
        session.add_prompt(session.add(), Click(place))
    before = len(runtime.decoded)
    for turn in range(3):
        for number in (1, 2, 3):
            session.mask(number)
            session.prediction(number)
            session.accept(number)
            session.rename(number, f"other {turn} {number}")
    session.label_map("highest")
    assert len(runtime.decoded) == before


def test_two_sessions_on_one_model_encode_no_crop_twice() -> None:
    predictor, runtime = fake()
    other = Volume(np.ones(SCAN.shape, np.int16), SCAN.affine)
    sessions = [Session(predictor, SCAN), Session(predictor, other)]
    for session in sessions:
        session.add("A")
    for count in range(5):
        for session in sessions:
            session.add_prompt(1, near(PLACES[13], count))
    assert len(runtime.encoded) == 2, "one crop on each scan"
    assert len(runtime.decoded) == 10
    masks = [session.mask(1).full() for session in sessions]
    assert masks[0].any()
    assert np.array_equal(masks[0], masks[1])


def test_costs_do_not_grow_with_what_went_before(tmp_path: Path) -> None:
    """50 lesions and 300 prompts: a step each, and as many bytes for the last as for the first."""
    session, runtime = begun(tmp_path / "s")
    journal, sizes, steps = tmp_path / "s" / "journal.jsonl", [], []
    with session:
        for number in range(1, 51):
            session.add()
            for count in range(6):
                before, written = len(runtime.decoded), journal.stat().st_size
                x, y, z = PLACES[number % 27]
                session.add_prompt(number, near((x - number // 27 * 3, y, z), count))
                sizes.append(journal.stat().st_size - written)
                steps.append(len(runtime.decoded) - before)
        assert set(steps) == {1}
        assert len(session.lesions) == 50
        digits = 12  # numbers of lesions, prompts and lines have more digits in the end
        assert max(sizes) <= min(sizes) + digits
        before = len(runtime.decoded)
        masks = [session.mask(number).full() for number in range(1, 51)]
        session.export(tmp_path / "labels.nii.gz", overlap="highest")
        assert len(runtime.decoded) == before
    predictor, fresh = fake()
    with Session.open(tmp_path / "s", predictor, SCAN) as again:
        assert all(np.array_equal(again.mask(number).full(), masks[number - 1]) for number in range(1, 51))
        again.export(tmp_path / "again.nii.gz", overlap="highest")
        assert (fresh.encoded, fresh.decoded) == ([], []), "all masks lie on the disk"
        again.add_prompt(7, near(PLACES[7], 6))
        assert len(fresh.decoded) == 1, "the seventh prompt of a lesion: its state lies on the disk too"
        again.undo()
        again.mask(7)
        assert len(fresh.decoded) == 1


def test_many_prompts_on_one_lesion_cost_one_step_after_opening(tmp_path: Path) -> None:
    session, _ = begun(tmp_path / "s")
    with session:
        session.add("A")
        session.add_prompts(1, [near(PLACES[13], count) for count in range(240)])
    predictor, runtime = fake()
    with Session.open(tmp_path / "s", predictor, SCAN) as again:
        again.add_prompt(1, Click((33, 25, 20)))
        assert len(runtime.decoded) == 1
        mask = again.mask(1).full()
    predictor, runtime = fake()
    with Session.open(tmp_path / "s", predictor, SCAN) as again:
        assert np.array_equal(again.mask(1).full(), mask)
        again.undo()
        again.mask(1)
        assert runtime.decoded == []
    straight, _ = fake()
    straight.set_volume(SCAN)
    prompts = [*(near(PLACES[13], count) for count in range(240)), Click((33, 25, 20))]
    assert np.array_equal(straight.predict(prompts).mask.full(), mask)


@pytest.mark.parametrize("nbytes", [2**30, 1])
def test_each_lesion_is_computed_once_for_a_label_map(nbytes: int, tmp_path: Path) -> None:
    """Even where nothing fits the cache."""
    with cache_of(nbytes):
        session, runtime = begun()
        for x, y, z in PLACES:
            session.add_prompt(session.add(), Click((x, y, z)), predict=False)
            session.add_prompt(session.add(), Click((x + 2, y, z)), predict=False)
        session.label_map("highest")
        assert len(runtime.decoded) == 2 * len(PLACES)
        before = len(runtime.decoded)
        session.export(tmp_path / "labels.nii.gz", overlap="highest")
        assert len(runtime.decoded) - before == (0 if nbytes > 1 else 2 * len(PLACES))


def test_what_does_not_fit_the_cache_is_computed_again_and_the_same() -> None:
    with cache_of(1):
        session, runtime = begun()
        session.add_prompt(session.add(), Click(PLACES[0]))
        first = session.mask(1).full()
        session.add_prompt(session.add(), Click(PLACES[13]))
        before = len(runtime.decoded)
        assert np.array_equal(session.mask(1).full(), first)
        assert len(runtime.decoded) == before + 1
        assert CACHE.nbytes <= session.mask(1).full().nbytes * 8


def test_progress_and_cancelling_belong_to_the_call() -> None:
    session, runtime = begun()
    session.add("A")
    seen: list[float] = []
    session.add_prompt(1, Click(PLACES[0]), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    lesions, decoded = session.lesions, len(runtime.decoded)
    mask = Mask(np.ones((2, 2, 2), bool), (9, 9, 9), SCAN.grid)
    for attempt in (
        lambda: session.add_prompt(1, near(PLACES[0], 4), cancel=lambda: True),
        lambda: session.replace_prompt(1, 1, near(PLACES[0], 4), cancel=lambda: True),
        lambda: session.replace_initial_mask(1, mask, cancel=lambda: True),
    ):
        with pytest.raises(CancelledError):
            attempt()
    assert session.lesions == lesions
    assert len(runtime.decoded) == decoded
    session.add_prompt(session.add(), Click(PLACES[13]), predict=False)
    session.add_prompt(session.add(), Click(PLACES[26]), predict=False)
    shares: list[float] = []
    session.label_map(progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
