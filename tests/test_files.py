from pathlib import Path

import pytest

from palpate.errors import OutputError
from palpate.files import check_writable, replacing


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
