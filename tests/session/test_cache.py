"""Masks and states on disk: used where they are whole and of the very prompts, removed where they are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes import FakeRuntime, balls_around, faking
from palpate.lesions import NumberedPrompt
from palpate.masks import Mask
from palpate.prompts import Click
from palpate.session import Session, SessionStore
from palpate.session.cache import MASK, STATE
from palpate.volume import Volume

SCAN = Volume(np.zeros((40, 36, 30), np.int16), np.diag([2.0, -2.0, 3.0, 1.0]))
CLICKS = [Click((15, 15, 12)), Click((18, 16, 12)), Click((22, 18, 12), positive=False)]  # in reach of the mask


def opened(folder: Path, **more: bool) -> tuple[Session, FakeRuntime]:
    predictor, runtime = faking(balls_around(8.0))
    return Session.open(folder, predictor, SCAN, **more), runtime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session with three prompts on one lesion, added one by one, and a proposal with a prompt."""
    predictor, _ = faking(balls_around(8.0))
    with Session(predictor, SCAN, tmp_path / "s") as session:
        session.add("liver")
        for click in CLICKS:
            session.add_prompt(1, click)
        session.add("proposed", Mask(np.ones((4, 4, 4), bool), (20, 20, 10), SCAN.grid), 0.5)
        session.add_prompt(2, Click((21, 21, 11)))
    return tmp_path / "s"


def files(folder: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in (folder / "cache").iterdir() if path.name.endswith(ending))


def test_what_is_cached_is_not_computed(folder: Path) -> None:
    session, runtime = opened(folder)
    with session:
        predictor, _ = faking(balls_around(8.0))
        predictor.set_volume(SCAN)
        assert session.is_cached(1)
        assert np.array_equal(session.mask(1).full(), predictor.predict(CLICKS).mask.full())
        assert session.mask(1).grid is SCAN.grid
        with pytest.raises(ValueError, match="read-only"):
            session.mask(1).array[...] = False
        prediction = session.prediction(1)
        assert prediction is not None
        assert np.array_equal(prediction.probability.full(), predictor.predict(CLICKS).probability.full())
        session.undo()
        session.undo()
        session.undo()
        assert np.array_equal(session.mask(1).full(), predictor.predict(CLICKS[:2]).mask.full())
    assert runtime.decoded == []


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def test_an_ignored_prompt_stays_ignored_in_another_process(tmp_path: Path) -> None:
    """The session's cache keeps which one it was, for the warnings and for the next prompt."""
    far = Click((36, 15, 12), positive=False)
    predictor, _ = faking(balls_around(8.0))
    with Session(predictor, SCAN, tmp_path / "s") as session:
        session.add("liver")
        session.add_prompt(1, CLICKS[0])
        session.add_prompt(1, far)
        expected = session.warnings(1)
    assert [warning.kind for warning in expected] == ["ignored_background"]
    assert SessionStore.open(tmp_path / "s", read_only=True).warnings(1) == expected
    session, runtime = opened(tmp_path / "s")
    with session:
        assert session.warnings(1) == expected
        assert runtime.decoded == []
        session.add_prompt(1, CLICKS[1])
    assert [prompts.prompts for prompts in runtime.decoded] == [tuple(CLICKS[:2])]


@pytest.mark.parametrize("harm", [damaged, cut, emptied, Path.unlink])
def test_damaged_files_are_removed_and_computed_again(folder: Path, harm: Callable[[Path], None]) -> None:
    session, _ = opened(folder, read_only=True)
    expected = session.mask(1).full()
    for path in files(folder, MASK) + files(folder, STATE):
        harm(path)
    session, runtime = opened(folder)
    with session:
        assert np.array_equal(session.mask(1).full(), expected)
        assert len(runtime.decoded) == 3
        session.mask(2)
    session, runtime = opened(folder)
    with session:
        assert np.array_equal(session.mask(1).full(), expected)
        assert runtime.decoded == [], "what was damaged was written anew"


def test_a_file_of_something_else_is_not_used(folder: Path) -> None:
    """A mask of another grid, and no mask at all, under a right name."""
    import hashlib

    session, _ = opened(folder, read_only=True)
    expected = session.mask(1).full()
    for content in (b"PK no archive", other_mask(folder)):
        for path in files(folder, MASK) + files(folder, STATE):
            key, _, ending = path.name.split(".", 2)
            path.unlink()
            (folder / "cache" / f"{key}.{hashlib.sha256(content).hexdigest()}.{ending}").write_bytes(content)
        session, runtime = opened(folder)
        with session:
            assert np.array_equal(session.mask(1).full(), expected)
            assert len(runtime.decoded) == 3


def other_mask(folder: Path) -> bytes:
    (folder.parent / "other").mkdir()
    predictor, _ = faking(balls_around(8.0))
    with Session(predictor, Volume(SCAN.array[:30], SCAN.affine), folder.parent / "other" / "s") as session:
        session.add_prompt(session.add(), CLICKS[0])
    (path,) = files(folder.parent / "other" / "s", MASK)
    return path.read_bytes()


def test_the_cache_may_be_deleted(folder: Path) -> None:
    session, _ = opened(folder, read_only=True)
    expected = session.mask(1).full()
    for path in files(folder):
        path.unlink()
    (folder / "cache").rmdir()
    session, runtime = opened(folder, read_only=True)
    assert np.array_equal(session.mask(1).full(), expected)
    assert len(runtime.decoded) == 3
    assert not (folder / "cache").exists(), "who only reads writes nothing"


def test_who_only_reads_removes_nothing(folder: Path) -> None:
    for path in files(folder, MASK):
        damaged(path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(folder)}
    session, _ = opened(folder, read_only=True)
    session.mask(1)
    session.prediction(2)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(folder)} == before


def test_another_model_finds_nothing(folder: Path) -> None:
    predictor, runtime = faking(balls_around(8.0))
    runtime.precision = "bfloat16"
    other = type(predictor)(runtime, predictor.settings.__class__(precision="bfloat16"))
    with Session.open(folder, other, SCAN, allow_other_model=True) as session:
        assert not session.is_cached(1)


def test_the_bound_is_kept_and_the_newest_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palpate.session.cache.MAX_BYTES", 20_000)
    session, _ = opened(folder)
    with session:
        for count in range(6):
            session.add_prompt(1, Click((14 + count, 17, 12)))
            left = files(folder, MASK) + files(folder, STATE)
            sizes = [path.stat().st_size for path in left]
            assert sum(sizes) <= max(20_000, *sizes)
    store = SessionStore.open(folder, read_only=True)
    kept = sum(path.stat().st_size for path in files(folder))
    assert kept > 0
    assert store.lesion(1).prompts[-1] == Click((19, 17, 12))


def test_a_full_disk_costs_the_cache_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palpate.session.cache.hidden_folder", full)
    before = files(folder)
    session, _ = opened(folder)
    with session:
        session.add_prompt(1, Click((14, 17, 12)))
        assert session.mask(1).voxels > 0
    assert files(folder) == before


def test_the_store_finds_masks_without_the_scan(folder: Path) -> None:
    session, _ = opened(folder, read_only=True)
    store = SessionStore.open(folder, read_only=True)
    for number in (1, 2):
        record = store.record(number)
        assert record is not None
        assert np.array_equal(record.mask.full(), session.mask(number).full())
        assert record.mask.grid.same_as(SCAN.grid, 1e-3)
        assert record.measurements == session.measure(number)
    assert "mask" not in vars(store.lesion(2).initial_mask), "the initial mask's file was not read"
    for path in files(folder, MASK):
        path.unlink()
    store = SessionStore.open(folder, read_only=True)
    assert store.record(1) is None


def test_a_key_depends_on_each_prompt_in_its_order(folder: Path) -> None:
    from dataclasses import replace

    store = SessionStore.open(folder, read_only=True)
    lesion = store.lesion(1)
    assert store.cached_mask(lesion) is not None
    turned = tuple(NumberedPrompt(number, click) for number, click in enumerate((CLICKS[1], CLICKS[0], CLICKS[2]), 1))
    assert store.cached_mask(replace(lesion, numbered=turned)) is None
    same = tuple(NumberedPrompt(number + 7, Click(click.index, click.positive)) for number, click in enumerate(CLICKS))
    assert store.cached_mask(replace(lesion, numbered=same)) is not None


def test_discarding_a_session_takes_its_cache(tmp_path: Path) -> None:
    predictor, _ = faking(balls_around(8.0))
    session = Session(predictor, SCAN, tmp_path / "new")
    session.add_prompt(session.add(), CLICKS[0])
    assert files(tmp_path / "new")
    session.discard()
    assert list(tmp_path.iterdir()) == []


def test_states_are_written_once_when_the_session_is_closed(tmp_path: Path) -> None:
    """They may be large, and a click does not wait for them; a session that is killed has its masks all the same."""
    predictor, _ = faking(balls_around(8.0))
    with Session(predictor, SCAN, tmp_path / "s") as session:
        session.add_prompt(session.add(), CLICKS[0])
        for click in CLICKS[1:]:
            session.add_prompt(1, click)
        session.add_prompt(session.add(), CLICKS[1])
        assert len(files(tmp_path / "s", MASK)) == 4
        assert files(tmp_path / "s", STATE) == []
        session.undo()
        session.undo()
    assert len(files(tmp_path / "s", STATE)) == 1, "of the lesions that there are in the end"
    session, runtime = opened(tmp_path / "s")
    with session:
        session.add_prompt(1, Click((10, 10, 10)))
        assert len(runtime.decoded) == 1
    assert len(files(tmp_path / "s", STATE)) == 2


def test_a_discarded_session_leaves_nothing_when_it_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    predictor, _ = faking(balls_around(8.0))
    with Session(predictor, SCAN, tmp_path / "s") as session:
        session.add_prompt(session.add(), CLICKS[0])
        session.discard()
    assert list((tmp_path / "s").iterdir()) == []
