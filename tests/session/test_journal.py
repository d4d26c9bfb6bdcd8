"""A session on disk: killed, torn, damaged, contested, out of room, hostile; reopened, the same to the voxel."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palpate.errors import OutputError, SessionError
from palpate.inference import RULES, InferenceSettings
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompt_file import LONG
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.session import Session
from palpate.session.lines import read_header
from palpate.volume import Volume
from small import noise_scan, quick_predictor

SCAN = noise_scan()
START = Mask(np.ones((3, 4, 3), bool), (5, 5, 3), SCAN.grid)
LONG_STROKE = Scribble(np.argwhere(np.ones((11, 12, 9), bool)) + np.array([4, 0, 0]))
ALL: list[Prompt] = [
    Click((8, 7, 5)),
    Click((2, 2, 2), positive=False),
    Box((4, 4, 4), (9, 9, 6)),
    Scribble.along([(6, 6, 6), (9, 7, 6)]),
    Lasso(1, 3, np.array([[3, 3], [8.25, 3], [3, 7.1]])),
    InitialMask(START),
]


def opened(folder: Path, **more: Any) -> Session:
    return Session.open(folder, quick_predictor(), SCAN, **more)


def filled(folder: Path) -> Path:
    """A session with every kind of prompt, a proposal, an undo and a redo."""
    with Session(quick_predictor(), SCAN, folder) as session:
        session.add("liver")
        for prompt in ALL:
            session.add_prompt(1, prompt)
        session.add("proposed", START, 0.625)
        session.undo()
        session.redo()
        session.accept(1)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("kept") / "session")


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """A copy of that session, to be spoilt."""
    folder = tmp_path / "session"
    shutil.copytree(kept, folder, ignore=shutil.ignore_patterns("journal.lock"))
    return folder


def lines(folder: Path) -> list[bytes]:
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def sealed(content: dict[str, Any]) -> bytes:
    """A line with a right checksum, whatever it says."""
    text = json.dumps(content)[:-1]
    return f'{text}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def content(line: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line)
    del said["crc32"]
    return said


def test_what_was_done_is_there_again(kept: Path) -> None:
    with opened(kept, read_only=True) as session:
        first, second = session.lesions
        assert (first.name, first.status, second.name, second.status) == ("liver", "accepted", "proposed", "proposed")
        click, away, box, stroke, lasso, prior = first.prompts
        assert (click, away, box) == (ALL[0], ALL[1], ALL[2])
        assert np.array_equal(stroke.places, ALL[3].places)
        assert np.array_equal(lasso.places, ALL[4].places)
        assert isinstance(prior, InitialMask)
        assert np.array_equal(prior.mask.full(), START.full())
        assert prior.mask.array.shape == (3, 4, 3), "no more of the grid than its box is held"
        assert second.score == 0.625
        predictor = quick_predictor()
        predictor.set_volume(SCAN)
        assert np.array_equal(session.mask(1).full(), predictor.predict(ALL).mask.full())
        assert np.array_equal(session.mask(2).full(), START.full())


def test_a_box_of_before_boxes_bounded_masks_is_a_hint(copied: Path) -> None:
    """Its line has the corners alone; its mask is what it was then. Older programs refuse a line that says more."""
    written = lines(copied)
    (at,) = [place for place, line in enumerate(written) if b'"box"' in line]
    line = content(written[at])
    entry = line["step"]["prompts"][0][1]
    assert entry.pop("loose") is False
    written[at] = sealed(line)
    (copied / "journal.jsonl").write_bytes(b"".join(written))
    with opened(copied, read_only=True) as session:
        hint = session.lesion(1).prompts[2]
        assert hint == Box((4, 4, 4), (9, 9, 6), loose=True)
        assert session.lesion(1).prompts[0] == ALL[0]


def test_the_file_is_readable(kept: Path) -> None:
    """Each line is JSON of its own, numbered, with the entries of a prompt file."""
    header, *rest = (json.loads(line) for line in lines(kept))
    assert header["version"] == 1
    assert header["scan"]["shape"] == [16, 14, 10]
    assert header["model"]["name"] == "small"
    assert [line["sequence"] for line in rest] == list(range(1, len(rest) + 1))
    assert rest[1]["step"] == {
        "kind": "add_prompts", "lesion": 1, "prompts": [[1, {"kind": "click", "index": [8, 7, 5], "positive": True}]],
    }  # fmt: skip
    assert [line["step"]["kind"] for line in rest[-4:]] == ["add", "undo", "redo", "judge"]
    named = rest[6]["step"]["prompts"][0][1]["mask"]
    assert named.endswith(".nii.gz")
    assert [path.name for path in (kept / "files").iterdir()] == [named], "the start is the same mask"


def test_a_long_stroke_goes_to_a_file(tmp_path: Path) -> None:
    assert len(LONG_STROKE.places) > LONG
    order = np.random.default_rng(0).permutation(len(LONG_STROKE.places))
    shuffled = Scribble(LONG_STROKE.places[order])
    with Session(quick_predictor(), SCAN, tmp_path / "s") as session:
        session.add()
        session.add_prompt(1, shuffled)
        mask = session.mask(1).full()
    assert max(map(len, lines(tmp_path / "s"))) < 1000
    with opened(tmp_path / "s") as session:
        (again,) = session.lesion(1).prompts
        assert np.array_equal(again.places, shuffled.places), "in the order in which it was drawn"
        assert np.array_equal(session.mask(1).full(), mask)


def test_a_line_torn_at_any_byte_is_dropped_and_written_over(copied: Path) -> None:
    path = copied / "journal.jsonl"
    whole = path.read_bytes()
    *_, last = lines(copied)
    before = len(whole) - len(last)
    for cut in (1, 2, len(last) // 2, len(last) - 1):
        path.write_bytes(whole[: before + cut])
        with opened(copied, read_only=True) as session:
            assert session.lesion(1).status == "open"
        assert path.stat().st_size == before + cut, "who only reads cuts nothing"
        with opened(copied) as session:
            assert session.lesion(1).status == "open"
            assert path.read_bytes() == whole[:before]
            session.rename(1, "after")
        with opened(copied) as session:
            assert session.lesion(1).name == "after"
        path.write_bytes(whole[:before])


@pytest.mark.parametrize("number", [1, 2, 5, 11])
def test_a_damaged_line_is_named(copied: Path, number: int) -> None:
    """One changed digit is enough, though the line stays JSON."""
    every = lines(copied)
    whole, line = b"".join(every), every[number - 1]
    spot = next(place for place, byte in enumerate(line) if chr(byte).isdigit() and place > 12)
    every[number - 1] = line[:spot] + (b"7" if line[spot : spot + 1] != b"7" else b"8") + line[spot + 1 :]
    (copied / "journal.jsonl").write_bytes(b"".join(every))
    with pytest.raises(SessionError, match=rf"journal\.jsonl: line {number} is not what was written: the journal"):
        opened(copied)
    (copied / "journal.jsonl").write_bytes(whole)
    opened(copied).close()  # the refusal left no lock


def test_a_missing_line_is_named(copied: Path) -> None:
    every = lines(copied)
    (copied / "journal.jsonl").write_bytes(b"".join(every[:3] + every[4:]))
    with pytest.raises(SessionError, match="line 4 is step 4, not 3"):
        opened(copied)


def hostile(step: dict[str, Any]) -> dict[str, Any]:
    return {"sequence": 12, "at": "2025-01-01T00:00:00+00:00", "step": step}


CLICK = {"kind": "click", "index": [1, 2, 3]}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "exec", "code": "import os"}, r"line 13: step: Input tag 'exec'"),
        ({"kind": "undo", "more": 1}, r"line 13: step\.undo\.more: Extra inputs are not permitted"),
        ({"kind": "remove", "lesion": 9}, "line 13 of its journal cannot be: no lesion 9 in this session"),
        ({"kind": "redo"}, "line 13 of its journal cannot be: nothing to redo"),
        ({"kind": "add", "lesion": 1, "name": "twice"}, "cannot be: there is a lesion 1 already"),
        ({"kind": "add", "lesion": 10**9, "name": "x"}, "less than or equal to 65535"),
        ({"kind": "add", "lesion": 3, "name": "x" * 10**6}, "at most 100 characters"),
        ({"kind": "add_prompts", "lesion": 1, "prompts": [[1, CLICK]]}, "prompt 1 is a number that was given before"),
        ({"kind": "add_prompts", "lesion": 1, "prompts": [[9, {"kind": "click", "index": [1, 2, 1e400]}]]}, "finite"),
        ({"kind": "add_prompts", "lesion": 1, "prompts": [[9, {"kind": "click", "index": [1, 2, 0.5]}]]}, "whole"),
        (
            {"kind": "add_prompts", "lesion": 1, "prompts": [[9, {"kind": "prior", "mask": "../../../etc/passwd"}]]},
            r"line 13: it names the file '\.\./\.\./\.\./etc/passwd', which is none that a session writes",
        ),
        (
            {"kind": "add_prompts", "lesion": 1, "prompts": [[9, {"kind": "scribble", "file": "0" * 64 + ".npy"}]]},
            r"0\.npy cannot be read \(No such file or directory\); put the session's files back",
        ),
        ({"kind": "add", "lesion": 3, "name": "x", "start": CLICK}, "a lesion begins with an initial mask"),
    ],
)
def test_a_hostile_line_is_refused(copied: Path, step: dict[str, Any], message: str) -> None:
    with (copied / "journal.jsonl").open("ab") as file:
        file.write(sealed(hostile(step)))
    with pytest.raises(SessionError, match=message):
        opened(copied)


def test_a_hostile_pickle_is_not_loaded(copied: Path) -> None:
    """An object array's file would run code if it were unpickled; its name is right."""

    class Dangerous:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(copied / "it-ran"),)

    import hashlib

    written = copied / "files" / "x.npy"
    np.save(written, np.array([[Dangerous()] * 3], dtype=object), allow_pickle=True)
    name = hashlib.sha256(written.read_bytes()).hexdigest() + ".npy"
    written.rename(copied / "files" / name)
    step = {"kind": "add_prompts", "lesion": 1, "prompts": [[9, {"kind": "scribble", "file": name}]]}
    with (copied / "journal.jsonl").open("ab") as file:
        file.write(sealed(hostile(step)))
    with pytest.raises(SessionError, match=r"line 13: .* not a stroke's file"):
        opened(copied)
    assert not (copied / "it-ran").exists()


def test_deep_and_long_lines_are_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (copied / "journal.jsonl").read_bytes()
    deep = '{"sequence": 12, "at": "", "step": ' + "[" * 100_000
    line = f'{deep}, "crc32": "{zlib.crc32(deep.encode()):08x}"}}\n'.encode()
    (copied / "journal.jsonl").write_bytes(whole + line)
    with pytest.raises(SessionError, match="line 13: "):
        opened(copied)
    monkeypatch.setattr("palpate.session.lines.MAX_BYTES", 5000)
    with pytest.raises(SessionError, match="line 13 is longer than 5000 bytes"):
        opened(copied)


def test_a_damaged_file_is_named(copied: Path) -> None:
    (path,) = (copied / "files").iterdir()
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(SessionError, match=r"line 8: .*\.nii\.gz is damaged: its hash is not that in its name"):
        opened(copied)


def test_journals_of_other_versions(copied: Path) -> None:
    header, *rest = lines(copied)
    (copied / "journal.jsonl").write_bytes(sealed({**content(header), "version": 2}) + b"".join(rest))
    with pytest.raises(SessionError, match="a journal of version 2, this program reads 1; update palpate"):
        opened(copied)
    (copied / "journal.jsonl").write_bytes(b'{"version": 1')
    with pytest.raises(SessionError, match="has no whole line"):
        opened(copied)
    (copied / "journal.jsonl").write_bytes(b"hello\n")
    with pytest.raises(SessionError, match="line 1 is not what was written"):
        opened(copied)


def test_no_session_or_one_already(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"holds no session \(journal.jsonl is missing\)"):
        opened(tmp_path)
    with pytest.raises(SessionError, match="holds a session already; open that one"):
        Session(quick_predictor(), SCAN, kept)
    with pytest.raises(OutputError, match=r"cannot write .*nowhere/s: No such file"):
        Session(quick_predictor(), SCAN, tmp_path / "nowhere" / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="File exists"):
        Session(quick_predictor(), SCAN, tmp_path / "file")


def test_another_scan_is_refused_and_a_moved_one_is_not(kept: Path) -> None:
    for other in (
        noise_scan(1),
        Volume(SCAN.array, SCAN.affine + np.diag([1e-4, 0, 0, 0])),
        Volume(SCAN.array.astype(np.int32), SCAN.affine),
    ):
        with pytest.raises(SessionError, match=r"was made on another scan: one in memory of shape \(16, 14, 10\)"):
            Session.open(kept, quick_predictor(), other, read_only=True)
    fortran = Volume(np.asfortranarray(SCAN.array).copy("F"), SCAN.affine)
    Session.open(kept, quick_predictor(), fortran, read_only=True).close()


def test_zoom_switched_off_is_no_other_model_where_it_has_none(copied: Path) -> None:
    """The same masks either way, so the journal is as good."""
    same = Predictor(quick_predictor().runtime, InferenceSettings(zoom=False))
    Session.open(copied, same, SCAN, read_only=True).close()


def test_a_session_keeps_to_the_rules_that_it_was_made_by(copied: Path) -> None:
    """A journal of before there were versions says none: the first. Going on by the newest is another model."""
    first = copied / "journal.jsonl"
    assert b'"rules"' in lines(copied)[0]
    header = json.loads(lines(copied)[0])
    assert header["model"]["rules"] == RULES
    del header["model"]["rules"], header["crc32"]
    first.write_bytes(sealed(header) + b"".join(lines(copied)[1:]))
    with Session.open(copied, quick_predictor(), SCAN) as session:
        assert session.identity.rules == session.predictor.settings.rules == 1
        assert not session.other_model
        session.rename(1, "by the first rules")
    assert b"other_model" not in first.read_bytes()
    with Session.open(copied, quick_predictor(), SCAN, allow_other_model=True) as session:
        assert session.other_model
        session.rename(1, "by the newest")
    assert json.loads(lines(copied)[-2])["step"]["model"]["rules"] == RULES
    assert opened(copied).identity.rules == RULES


def test_another_model_is_refused_unless_allowed(copied: Path) -> None:
    with pytest.raises(
        SessionError, match=r"was made with the model small \([0-9a-f]{12}, no zoom\), this is small \("
    ):
        Session.open(copied, quick_predictor(seed=1), SCAN)
    with Session.open(copied, quick_predictor(seed=1), SCAN, allow_other_model=True, read_only=True) as session:
        other = session.mask(1).full()
    assert b"other_model" not in (copied / "journal.jsonl").read_bytes()
    with Session.open(copied, quick_predictor(seed=1), SCAN, allow_other_model=True) as session:
        assert np.array_equal(session.mask(1).full(), other)
        session.rename(1, "with the other")
    assert json.loads(lines(copied)[-2])["step"]["kind"] == "other_model"
    with Session.open(copied, quick_predictor(seed=1), SCAN) as session:
        assert session.lesion(1).name == "with the other", "it is the session's model now"
    with pytest.raises(SessionError, match="was made with the model small"):
        opened(copied)


def test_only_one_process_at_a_time(copied: Path) -> None:
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "file.write('process 7 on elsewhere'); file.flush(); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(copied / "journal.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SessionError, match="is in use by process 7 on elsewhere; close it there first"):
            opened(copied)
        opened(copied, read_only=True).close()
        other.kill()
    with opened(copied) as session:
        with pytest.raises(SessionError, match=rf"is in use by process {os.getpid()} on .* since 20"):
            opened(copied)
        session.rename(1, "mine")
    opened(copied).close()


def test_closed_or_read_only_sessions_refuse_operations(copied: Path) -> None:
    before = (copied / "journal.jsonl").read_bytes()
    reading = opened(copied, read_only=True)
    closed = opened(copied)
    closed.close()
    closed.close()
    for session in (reading, closed):
        for attempt in (session.add, session.undo, partial(session.add_prompt, 1, Click((3, 3, 3)))):
            with pytest.raises(SessionError, match="is closed, or open for reading only; open it again"):
                attempt()
        assert len(session.lesions) == 2
    assert (copied / "journal.jsonl").read_bytes() == before


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: no file of this process grows beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_undoes_the_operation_and_the_session_goes_on(copied: Path) -> None:
    path = copied / "journal.jsonl"
    with opened(copied) as session:
        before = path.read_bytes()
        with files_of_at_most(len(before) + 40):  # a part of the line fits
            for attempt in (session.add, session.undo, lambda: session.add_prompt(1, Click((9, 9, 9)))):
                with pytest.raises(OutputError, match=r"cannot write .*journal\.jsonl: File too large; nothing was ch"):
                    attempt()
                assert path.read_bytes() == before
        assert session.lesion(1).status == "accepted"
        assert len(session.lesions) == 2
        with files_of_at_most(10), pytest.raises(OutputError, match="nothing was changed"):
            session.add_prompt(1, LONG_STROKE)
        assert list((copied / "files").glob(".*")) == [], "nothing half written stays"
        session.add_prompt(1, Click((9, 9, 9)))
        mask = session.mask(1).full()
    with opened(copied) as session:
        assert session.lesion(1).prompts[-1] == Click((9, 9, 9))
        assert np.array_equal(session.mask(1).full(), mask)


def test_a_disk_that_fails_for_good_is_not_written_to(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with opened(copied) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            patch.setattr(os, "ftruncate", failing)
            with pytest.raises(OutputError, match="Input/output error"):
                session.rename(1, "lost")
        with pytest.raises(OutputError, match="could not be repaired after a failed write; close the session"):
            session.rename(1, "other")
        assert session.lesion(1).name == "liver"
    with opened(copied) as session:
        session.rename(1, "other")


def test_an_interrupt_while_writing_leaves_no_half_line(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(copied) as session:
        before = (copied / "journal.jsonl").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                session.rename(1, "lost")
        assert (copied / "journal.jsonl").read_bytes() == before
        session.rename(1, "kept")
    opened(copied).close()


CHILD = """
import sys
from pathlib import Path
import numpy as np
from palpate.prompts import Click, InitialMask
from palpate.session import Session
from palpate.masks import Mask
from small import noise_scan, quick_predictor

folder, scan = Path(sys.argv[1]), noise_scan()
new = not (folder / "journal.jsonl").exists()
if new:
    session = Session(quick_predictor(), scan, folder)
    session.add()
else:
    session = Session.open(folder, quick_predictor(), scan)
print("ready", flush=True)
while True:
    count = len(session.lesion(1).prompts)
    if count % 5 == 4:
        prompt = InitialMask(Mask(np.ones((2, 2, 2 + count % 3), bool), (count % 12, 4, 4), scan.grid))
    else:
        prompt = Click((count % 16, count // 16 % 14, 5))
    number = session.add_prompt(1, prompt)
    print(number, flush=True)
"""


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    folder, rng = tmp_path / "session", random.Random(20)
    before = 0
    for _ in range(2):
        command = [sys.executable, "-c", CHILD, str(folder)]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            wanted = rng.randrange(1, 12)
            acknowledged = [int(child.stdout.readline()) for _ in range(wanted)]
            time.sleep(rng.random() * 0.05)
            child.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout.read().splitlines()]
        assert acknowledged[0] == before + 1
        with opened(folder) as session:
            lesion = session.lesion(1)
            there = [each.number for each in lesion.numbered]
            assert there in ([*range(1, acknowledged[-1] + 1)], [*range(1, acknowledged[-1] + 2)])
            assert list((folder / "files").glob(".palpate-*")) == []
            for count, prompt in enumerate(lesion.prompts):
                if count % 5 == 4:
                    assert isinstance(prompt, InitialMask)
                    assert prompt.mask.start == (count % 12, 4, 4)
                else:
                    assert prompt == Click((count % 16, count // 16 % 14, 5))
            predictor = quick_predictor()
            predictor.set_volume(SCAN)
            assert np.array_equal(session.mask(1).full(), predictor.predict(list(lesion.prompts)).mask.full())
        before = there[-1]


def test_the_header_names_scan_and_model(kept: Path, tmp_path: Path) -> None:
    header = read_header(kept)
    predictor = quick_predictor()
    assert header.model.sha256 == predictor.runtime.sha256()
    assert header.scan.path is None
    again = read_header(filled(tmp_path / "again"))
    assert again.model_copy(update={"id": header.id}) == header
    assert again.id != header.id
