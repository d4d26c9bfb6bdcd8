"""Files written whole or not at all, locks that name their holder, and the one translation of the system's errors."""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from palpate import files
from palpate.errors import BatchError, OutputError, SessionError
from palpate.files import check_writable, error_text, hidden_folder, lock, locked, replacing, settle, writing

SOURCE = Path(files.__file__).parent


def test_the_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with replacing(target) as (staged,):
        assert staged.name == target.name
        staged.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as (staged,):
        _write_half(staged)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def _write_half(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def test_several_files_are_renamed_in_order(tmp_path: Path) -> None:
    raw, header = tmp_path / "mask.zraw", tmp_path / "mask.mhd"
    with replacing(raw, header) as staged:
        assert staged[0].parent == staged[1].parent
        for part in staged:
            part.write_text(part.name)
    assert raw.read_text() == "mask.zraw"
    assert header.read_text() == "mask.mhd"


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"), replacing(tmp_path / "mask.nii"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_an_output_error(tmp_path: Path) -> None:
    message = r"mask\.nii: No space left on device; nothing was changed"
    with pytest.raises(OutputError, match=message), replacing(tmp_path / "mask.nii"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="does not exist; make it first"):
        check_writable(tmp_path / "no" / "mask.nii")


@pytest.mark.usefixtures("as_ordinary_user")
def test_a_folder_without_permission_is_refused(public_folder: Path) -> None:
    if public_folder.owner() != "root":
        public_folder.chmod(0o555)
    with pytest.raises(OutputError, match="no permission in"):
        check_writable(public_folder / "mask.nii")


def test_a_result_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    """Some writers make files that only their owner can read."""
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x")
    for mode in (None, 0o640):
        with replacing(tmp_path / "result") as (staged,):
            staged.write_text("new")
            staged.chmod(0o600)
        expected = ordinary.stat().st_mode & 0o777 if mode is None else mode
        assert (tmp_path / "result").stat().st_mode & 0o777 == expected
        (tmp_path / "result").chmod(0o640)  # an old file's own mode is kept


def test_a_folder_is_as_readable_as_any_new_folder(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()
    with hidden_folder(tmp_path) as staged:
        assert Path(staged).stat().st_mode & 0o777 == 0o700
        (Path(staged) / "part").write_text("x")
        settle(Path(staged), tmp_path / "result")
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["part"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    """In a process of its own: the umask belongs to all threads, and nothing in the library sets it."""
    code = (
        "import os, sys; os.umask(0o027); from pathlib import Path; from palpate.files import *\n"
        "folder = Path(sys.argv[1])\n"
        "with replacing(folder / 'r') as (staged,): staged.write_text('x'); staged.chmod(0o600)\n"
        "with hidden_folder(folder) as staged: settle(Path(staged), folder / 'f')\n"
        "with locked(folder / 'l', RuntimeError): pass"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "r": "0o640", "f": "0o750", "l": "0o640",
    }  # fmt: skip


def test_an_error_of_the_system_names_the_path_and_the_next_step() -> None:
    full = OSError(28, "No space left on device")
    message = r"^cannot write a\.nii: No space left on device; nothing was changed\. Free some space"
    with pytest.raises(OutputError, match=message) as caught, writing("a.nii"):
        raise full
    assert caught.value.__cause__ is full
    message = "^cannot make the folder a: odd; choose another$"
    with pytest.raises(OutputError, match=message), writing("a", "choose another", action="make the folder"):
        raise OSError("odd")
    with pytest.raises(SessionError, match=r"^mine$"), writing("a"):
        raise SessionError("mine")
    assert error_text(OSError()) == "OSError"


def test_the_systems_words_and_the_umask_are_in_one_place() -> None:
    """Nobody else reads an OSError's words, and nobody sets the umask, which belongs to all threads of a process."""
    found = {
        (path.relative_to(SOURCE).as_posix(), node.attr)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"strerror", "umask"}
    }
    assert found == {("files.py", "strerror")}


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """In this process too, and in another thread of it."""
    path = tmp_path / "lock"
    refusals: list[str] = []

    def refused() -> None:
        with pytest.raises(SessionError) as caught:
            lock(path, SessionError)
        refusals.append(str(caught.value))

    with locked(path, SessionError):
        refused()
        in_thread(refused)
    for refusal in refusals:
        assert re.match(rf"process {os.getpid()} on .+ since 20\d\d-.*\+00:00$", refusal)
    assert len(refusals) == 2
    assert path.read_text().strip() == refusals[0], "the file and its text stay"
    held = lock(path, SessionError)
    in_thread(held.release)  # a session may be closed by another thread than opened it
    lock(path, SessionError).release()


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_lock_ends_with_its_process_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from palpate.files import lock\n"
        "held = lock(Path(sys.argv[1]), RuntimeError); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        text = path.read_bytes()
        with pytest.raises(SessionError, match=f"^process {other.pid} on "):
            lock(path, SessionError)
        assert path.read_bytes() == text, "who is refused changes nothing"
        other.send_signal(signal.SIGKILL)
        other.wait()
    with locked(path, SessionError):
        assert path.read_text().strip().startswith(f"process {os.getpid()} on ")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Loader workers are forked on some systems, and may outlive a session's end."""
    code = (
        "import os, sys, time; from pathlib import Path; from palpate.files import lock\n"
        "held = lock(Path(sys.argv[1]), RuntimeError)\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(600)\n"
        "held.release(); lock(Path(sys.argv[1]), RuntimeError); os.kill(child, 9); print('free')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "lock"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "free\n"


def test_a_lock_that_is_not_kept_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "{}.lock"
    with locked(path, BatchError, keep=False), pytest.raises(BatchError), locked(path, BatchError, keep=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, its holder ended: what is locked then is what nobody else will find."""
    fcntl = pytest.importorskip("fcntl")
    path, flock = tmp_path / "lock", fcntl.flock

    def late(held: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(held, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path, BatchError, keep=False):
        assert path.exists()
        with pytest.raises(BatchError), locked(path, BatchError, keep=False):
            pass
    assert not path.exists()


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*No such file"), locked(tmp_path / "no" / "l", BatchError):
        pass
    assert not (tmp_path / "no").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*folder: "), locked(tmp_path / "folder", BatchError):
        pass
