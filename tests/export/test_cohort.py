"""Cohort export: what `look` and `train` read back is what was accepted, voxel by voxel."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palpate.cohort.layouts import find_cohort
from palpate.errors import OutputError, SessionError
from palpate.files import locked
from palpate.formats import read, write
from palpate.masks import Mask
from palpate.session import Session
from palpate.volume import Volume
from small import noise_scan, quick_predictor


def accepted(scan: Volume, *firsts: tuple[int, int, int]) -> Session:
    session = Session(quick_predictor(), scan)
    for first in firsts:
        session.accept(session.add(initial_mask=Mask(np.ones((3, 3, 3), bool), first, scan.grid)))
    return session


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "cohort.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "lock" not in path.name}


def test_scans_and_labels_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    scans = [noise_scan(0), noise_scan(1), Volume(noise_scan(2).array / np.float32(7), noise_scan(2).affine)]
    names = [
        accepted(scan, (2, 2, 2), (3, 3, 3)).export_cohort(folder, patient=f"P{number}, Åsa")
        for number, scan in enumerate(scans)
    ]
    cohort = find_cohort(folder)
    assert cohort.incomplete == ()
    assert {scan.name: scan.patient for scan in cohort.scans} == {name: f"P{n}, Åsa" for n, name in enumerate(names)}
    for name, scan in zip(names, scans, strict=True):
        volume, label = next(each for each in cohort.scans if each.name == name).load()
        assert np.array_equal(volume.array, scan.array)
        assert volume.array.dtype == scan.array.dtype
        assert volume.grid.same_as(scan.grid, 1e-3)
        union = np.zeros(scan.shape, np.uint8)
        union[2:5, 2:5, 2:5] = union[3:6, 3:6, 3:6] = 1
        assert np.array_equal(label.array, union)
    with (folder / "cohort.csv").open() as file:
        assert file.readline() == "image,label,patient,name\n"


def test_only_what_is_accepted(tmp_path: Path) -> None:
    scan = noise_scan()
    session = accepted(scan, (2, 2, 2))
    session.add(initial_mask=Mask(np.ones((3, 3, 3), bool), (9, 9, 5), scan.grid))
    session.export_cohort(tmp_path / "c")
    _, label = find_cohort(tmp_path / "c").scans[0].load()
    assert int(label.array.sum()) == 27


def test_exporting_again_replaces_the_entry(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    first = accepted(noise_scan(), (2, 2, 2)).export_cohort(folder, patient="P1")
    accepted(noise_scan(1), (2, 2, 2)).export_cohort(folder)
    before = everything(folder)
    assert accepted(noise_scan(), (2, 2, 2)).export_cohort(folder) == first
    assert rows(folder)[1]["patient"] == "P1", "what is known of the patient stays"
    assert len(rows(folder)) == 2
    assert everything(folder).keys() == before.keys()
    # Further columns, such as a split, stay too.
    listing = "\n".join(f"{line},{'split' if n == 0 else 'train'}" for n, line in enumerate(
        (folder / "cohort.csv").read_text().splitlines()
    ))  # fmt: skip
    (folder / "cohort.csv").write_text(listing)
    assert accepted(noise_scan(), (6, 6, 6)).export_cohort(folder, patient="P2") == first
    (mine,) = (scan for scan in find_cohort(folder).scans if scan.name == first)
    assert (mine.patient, mine.subset) == ("P2", "train")
    _, label = mine.load()
    assert label.array[7, 7, 7] == 1
    assert label.array[3, 3, 3] == 0


def test_a_scans_own_name_is_part_of_its_entrys(tmp_path: Path) -> None:
    write(noise_scan(), tmp_path / "CT, arm 1.nrrd")
    scan = read(tmp_path / "CT, arm 1.nrrd")
    session = accepted(scan, (2, 2, 2))
    name = session.export_cohort(tmp_path / "c")
    assert name == f"CT-arm-1-{session.scan.sha256[:12]}"
    assert find_cohort(tmp_path / "c").scans[0].name == name


def test_a_scan_keeps_its_entry_when_its_file_is_called_otherwise(tmp_path: Path) -> None:
    """And the patient with it: else one patient's scan could come into two parts of a split."""
    for name in ("first.nii.gz", "renamed.nii.gz"):
        write(noise_scan(), tmp_path / name)
    name = accepted(read(tmp_path / "first.nii.gz"), (2, 2, 2)).export_cohort(tmp_path / "c", patient="P1")
    assert accepted(read(tmp_path / "renamed.nii.gz"), (6, 6, 6)).export_cohort(tmp_path / "c") == name
    (row,) = rows(tmp_path / "c")
    assert (row["name"], row["patient"]) == (name, "P1")
    assert len(list((tmp_path / "c" / "images").iterdir())) == 1


def test_nothing_accepted_is_refused(tmp_path: Path) -> None:
    session = Session(quick_predictor(), noise_scan())
    session.add(initial_mask=Mask(np.ones((3, 3, 3), bool), (2, 2, 2), session.volume.grid))
    with pytest.raises(SessionError, match="nothing to export: no lesion is accepted; accept those that are right"):
        session.export_cohort(tmp_path / "c")
    session.accept(session.add("empty"))
    with pytest.raises(SessionError, match="nothing to export: the accepted masks are empty"):
        session.export_cohort(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_another_layouts_folder_is_left_alone(tmp_path: Path) -> None:
    session = accepted(noise_scan(), (2, 2, 2))
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds 'dataset\.json' but no cohort\.csv; name a new folder"):
        session.export_cohort(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cohort.csv").write_text("image,label\na,b\n")
    with pytest.raises(OutputError, match="is no cohort of ours, with the columns image,label,patient,name"):
        session.export_cohort(tmp_path / "c")
    (tmp_path / "c" / "cohort.csv").write_bytes(b"image,label,patient,name\n\xff\xfe,,,\n")
    with pytest.raises(OutputError, match=r"cannot be gone on with \('utf-8' codec"):
        session.export_cohort(tmp_path / "c")
    with pytest.raises(OutputError, match=r"cannot write .*nowhere/c: No such file"):
        session.export_cohort(tmp_path / "nowhere" / "c")


def test_a_failure_leaves_the_cohort_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "c"
    accepted(noise_scan(), (2, 2, 2)).export_cohort(folder)
    listing = (folder / "cohort.csv").read_bytes()

    def failing(_: Any, path: Path) -> None:
        raise OutputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("palpate.export.cohort.write", failing)
    for place in (folder, tmp_path / "new"):
        with pytest.raises(OutputError, match="No space left"):
            accepted(noise_scan(1), (2, 2, 2)).export_cohort(place)
    assert (folder / "cohort.csv").read_bytes() == listing
    assert len(find_cohort(folder).scans) == 1
    assert not (tmp_path / "new").exists()


def test_a_failure_at_the_label_leaves_the_cohort_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is written by then; once there is space, the same call works. A kill leaves no folder to be refused."""
    with monkeypatch.context() as full:
        full.setattr("palpate.export.cohort.write", failing_after(1))
        with pytest.raises(OutputError, match="No space left"):
            accepted(noise_scan(), (2, 2, 2)).export_cohort(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    (tmp_path / "c").mkdir()
    with monkeypatch.context() as killed:
        killed.setattr("palpate.export.cohort.write", failing_after(1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            accepted(noise_scan(), (2, 2, 2)).export_cohort(tmp_path / "c")
    accepted(noise_scan(), (2, 2, 2)).export_cohort(tmp_path / "c")
    assert len(find_cohort(tmp_path / "c").scans) == 1
    label = next((tmp_path / "c" / "labels").iterdir()).read_bytes()
    monkeypatch.setattr("palpate.export.cohort.write", failing_after(0))
    with pytest.raises(OutputError, match="No space left"):
        accepted(noise_scan(), (3, 3, 3)).export_cohort(tmp_path / "c")
    assert next((tmp_path / "c" / "labels").iterdir()).read_bytes() == label


def failing_after(count: int, error: BaseException | None = None) -> Any:
    """`write` that works so often and then finds the disk full."""
    done = 0

    def writing(volume: Any, path: Path) -> None:
        nonlocal done
        done += 1
        if done > count:
            raise error or OutputError(f"cannot write {path}: No space left on device")
        write(volume, path)

    return writing


def test_two_exports_at_once_wait_for_nobody(tmp_path: Path) -> None:
    accepted(noise_scan(), (2, 2, 2)).export_cohort(tmp_path / "c")
    with (
        locked(tmp_path / "c" / ".cohort.lock", SessionError),
        pytest.raises(SessionError, match=r"c: is in use by process \d+ on .*; export again when that has ended"),
    ):
        accepted(noise_scan(1), (2, 2, 2)).export_cohort(tmp_path / "c")


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        ("P1\nP2", r"patient 'P1\\nP2': has a line break or another control character; give one line of text"),
        ("P1\r", "has a line break"),
        ("P\t1", "another control character"),
        ("P1\x00", "another control character"),
        ("P1\u2028", "has a line break"),
        ("", "patient '': names nobody; give a name, or leave the patient out"),
        ("  ", "names nobody"),
        *(
            (f"{first}1", "takes what begins with one of = [+] - @ for a formula; begin with a letter")
            for first in "=+-@"
        ),
        (" =1+1", "for a formula"),
    ],
)
def test_a_patient_is_text_that_a_list_can_hold(tmp_path: Path, patient: str, message: str) -> None:
    session = accepted(noise_scan(), (2, 2, 2))
    with pytest.raises(SessionError, match=message):
        session.export_cohort(tmp_path / "c", patient=patient)
    assert not (tmp_path / "c").exists()


def test_a_name_with_commas_quotes_and_dashes_is_one(tmp_path: Path) -> None:
    accepted(noise_scan(), (2, 2, 2)).export_cohort(tmp_path / "c", patient='Å "B", C-3 = 1')
    assert [row["patient"] for row in rows(tmp_path / "c")] == ['Å "B", C-3 = 1']
