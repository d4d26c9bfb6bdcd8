"""A session's store without its scan and its model: what it tells, what it does, and what older programs wrote."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes import balls_around, faking
from palpate.errors import SessionError
from palpate.masks import Mask
from palpate.prompts import Box, Click, InitialMask, Lasso, Scribble
from palpate.session import Session, SessionStore
from small import noise_scan, quick_predictor

SCAN = noise_scan()
OLD = Path(__file__).parent / "data" / "journal-7501bab"
START = Mask(np.ones((3, 4, 3), bool), (5, 5, 3), SCAN.grid)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A session that the program wrote at revision 7501bab: every kind of step and prompt, two lesions of one name."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def begun(folder: Path) -> Path:
    with Session(quick_predictor(), SCAN, folder) as session:
        session.add("liver")
        session.add_prompts(1, [Click((8, 7, 5)), Click((2, 2, 2), positive=False)])
        session.add("proposed", START, 0.5)
        session.add("other", Mask(START.array, (2, 2, 2), SCAN.grid), 0.25)
    return folder


@pytest.mark.parametrize("with_scan", [False, True])
def test_a_journal_of_the_version_before_opens(old: Path, with_scan: bool) -> None:
    store = SessionStore.open(old, SCAN if with_scan else None, read_only=True)
    liver, proposed, stroke = store.lesions
    assert [(each.number, each.name, each.status) for each in store.lesions] == [
        (1, "liver", "accepted"), (2, "with another model", "proposed"), (4, "liver", "open"),
    ]  # fmt: skip
    assert [each.number for each in liver.numbered] == [1, 2, 3, 4, 5]
    assert liver.prompts[:3] == (
        Click((8, 7, 5)),
        Click((2, 2, 2), positive=False),
        Box((4, 4, 4), (9, 9, 6), loose=True),
    )
    assert isinstance(liver.prompts[3], Lasso)
    assert isinstance(liver.prompts[4], InitialMask)
    assert np.array_equal(liver.prompts[4].mask.full(), START.full())
    assert proposed.score == 0.625
    assert proposed.initial_mask is not None
    assert proposed.initial_mask.digest == InitialMask(START).digest
    assert isinstance(stroke.prompts[0], Scribble)
    assert len(stroke.prompts[0].places) == 11 * 12 * 9
    assert stroke.prompts[1] == Click((9, 8, 5))
    assert (store.identity.name, store.identity.budget, store.identity.precision) == ("small", None, "float32")
    assert store.identity.sha256.startswith("8f20b34dc3f9"), "it went on with another model"
    assert store.header.model.sha256.startswith("cb35061812dd")
    assert (store.undoable, store.redoable) == (21, 1)
    assert store.times.first == "2026-11-27T13:58:50+00:00"


def test_a_journal_of_the_version_before_is_gone_on_with(old: Path) -> None:
    predictor, _ = faking(balls_around(6.0))
    with pytest.raises(SessionError, match="was made with the model small"):
        Session.open(old, predictor, SCAN)
    with Session.open(old, predictor, SCAN, allow_other_model=True) as session:
        assert session.mask(1).voxels > 0
        with pytest.raises(SessionError, match="lesion 1 is called 'liver' already"):
            session.rename(2, "liver")
        session.rename(4, "stroke")
        states = [session.lesions]
        while session.can_undo:
            session.undo()
            states.append(session.lesions)
        for state in reversed(states[:-1]):
            session.redo()
            assert session.lesions == state
    store = SessionStore.open(old, read_only=True)
    assert store.identity.name == "fake"
    assert [lesion.name for lesion in store.lesions] == ["liver", "with another model", "stroke"]


def test_what_it_does_needs_neither_scan_nor_model(tmp_path: Path) -> None:
    folder = begun(tmp_path / "s")
    with SessionStore.open(folder) as store:
        store.rename(1, "spleen")
        store.accept(1)
        store.reopen(1)
        store.reject(3)
        store.accept(2)
        store.clear(1)
        store.undo()
        store.remove(2)
        store.undo()
        store.redo()
        store.undo()
        with pytest.raises(SessionError, match="lesion 2 is called 'proposed' already; choose another name"):
            store.rename(1, "proposed")
        with pytest.raises(SessionError, match="lesion 2 is accepted, not a proposal to reject"):
            store.reject(2)
        with pytest.raises(SessionError, match="a lesion's name is a line of 1 to 100 characters"):
            store.rename(1, "")
        with pytest.raises(SessionError, match="no lesion 9"):
            store.accept(9)
        expected = store.lesions
    with pytest.raises(SessionError, match="is closed"):
        store.accept(1)
    with Session.open(folder, quick_predictor(), SCAN) as session:
        assert [(each.number, each.name, each.status) for each in session.lesions] == [
            (1, "spleen", "open"), (2, "proposed", "accepted"),
        ]  # fmt: skip
        assert session.lesion(1).numbered == expected[0].numbered
        assert np.array_equal(session.mask(2).full(), START.full())
        session.add_prompt(1, Click((9, 9, 5)))


def test_when_things_were_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import datetime

    class Clock(datetime):
        minute_now = 0

        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            cls.minute_now += 1
            return cls(2026, 1, 1, 12, cls.minute_now)

    monkeypatch.setattr("palpate.session.journal.datetime", Clock)
    folder = begun(tmp_path / "s")  # four steps
    with SessionStore.open(folder) as store:
        store.accept(2)
        store.undo()
        live = store.times
    read = SessionStore.open(folder, read_only=True).times
    assert read == live

    def minute(text: str | None) -> int:
        assert text is not None
        return datetime.fromisoformat(text).minute

    assert (minute(read.first), minute(read.last)) == (1, 6)
    assert {number: minute(at) for number, at in read.added.items()} == {1: 1, 2: 3, 3: 4}
    assert {number: minute(at) for number, at in read.changed.items()} == {1: 2, 2: 6, 3: 4}
    assert {number: minute(at) for number, at in read.prompts.items()} == {1: 2, 2: 2}


def test_initial_masks_are_read_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path / "s")

    def unreadable(path: Path) -> InitialMask:
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as patch:
        patch.setattr("palpate.session.files.read_initial_mask", unreadable)
        with SessionStore.open(folder) as store:
            store.rename(2, "renamed")
            store.undo()
            mask = store.lesion(2).initial_mask
            assert mask is not None
            assert mask.digest == InitialMask(START).digest, "known from the cache"
            assert "StoredInitialMask(" in repr(mask)
    assert np.array_equal(mask.mask.full(), START.full())
    shutil.rmtree(folder / "cache")
    store = SessionStore.open(folder, read_only=True)
    again = store.lesion(2).initial_mask
    assert again is not None
    assert again.digest == InitialMask(START).digest


def test_a_place_in_millimetres_needs_the_scan(tmp_path: Path) -> None:
    """This program writes none; another one may."""
    import json
    import zlib

    folder = begun(tmp_path / "s")
    step = {
        "kind": "add_prompts",
        "lesion": 1,
        "prompts": [[3, {"kind": "click", "mm": SCAN.grid.to_mm((8, 8, 5)).tolist()}]],
    }
    text = json.dumps({"sequence": 5, "at": "2026-01-01T00:00:00+00:00", "step": step})[:-1]
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(f'{text}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode())
    with pytest.raises(SessionError, match="line 6: a click is given in millimetres, which need the scan"):
        SessionStore.open(folder)
    assert SessionStore.open(folder, SCAN).lesion(1).prompts[-1] == Click((8, 8, 5))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: next((folder / "files").iterdir()).write_bytes(b"x"),
        lambda folder: (folder / "journal.jsonl").write_bytes(b"{}\n"),
        lambda folder: (folder / "journal.jsonl").unlink(),
    ],
)
def test_what_is_damaged_is_refused_and_unlocked(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    folder = begun(tmp_path / "s")
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    harm(folder)
    with pytest.raises(SessionError):
        SessionStore.open(folder)
    for path, content in whole.items():
        path.write_bytes(content)
    SessionStore.open(folder).close()


def test_it_is_read_without_torch(tmp_path: Path) -> None:
    """Nor any library that takes long to load."""
    predictor, _ = faking(balls_around(6.0))
    with Session(predictor, SCAN, tmp_path / "s") as session:
        for number in range(1, 51):
            session.add(initial_mask=START if number % 2 else None)
            session.add_prompts(number, [Click((number % 16, count, 5)) for count in range(6)], predict=False)
    heavy = ["torch", "nibabel", "SimpleITK", "scipy", "safetensors"]
    code = (
        "import sys\n"
        "from palpate.session import SessionStore\n"
        "store = SessionStore.open(sys.argv[1], read_only=True)\n"
        "assert len(store.lesions) == 50 and store.record(1) is None\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mask_of_before_an_initial_mask_is_not_shown_after(tmp_path: Path) -> None:
    """A model that takes the initial mask makes another mask of the same prompts, which nobody has computed yet."""
    with Session(quick_predictor(), SCAN, tmp_path / "session") as session:
        session.add("liver")
        session.add_prompt(1, Click((8, 7, 5)))
        before = session.mask(1).voxels
        session.replace_initial_mask(1, START, predict=False)
    store = SessionStore.open(tmp_path / "session", read_only=True)
    assert store.mask(store.lesion(1)) is None
    with Session.open(tmp_path / "session", quick_predictor(), SCAN) as session:
        assert session.mask(1).voxels != before
        after = session.mask(1).full()
    store = SessionStore.open(tmp_path / "session", read_only=True)
    shown = store.mask(store.lesion(1))
    assert shown is not None
    assert np.array_equal(shown.full(), after)


def test_a_model_without_initial_masks_is_shown_its_own(tmp_path: Path) -> None:
    with Session(quick_predictor(prompted=False), SCAN, tmp_path / "session") as session:
        session.add("liver", START)
        session.add_prompt(1, Click((8, 7, 5)))
        expected = session.mask(1).full()
    store = SessionStore.open(tmp_path / "session", read_only=True)
    shown = store.mask(store.lesion(1))
    assert shown is not None
    assert np.array_equal(shown.full(), expected)
