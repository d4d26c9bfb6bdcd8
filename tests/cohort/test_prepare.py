"""Preparing: once, in parallel, again only what changed, and on after a kill."""

import dataclasses
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from palpate.cohort import Cohort, LabelledScan
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import PreparedCohort
from palpate.errors import CohortError, OutputError, WorkerError
from small import small_cohort


def stamps(folder: Path) -> dict[str, int]:
    """When each finished scan's folder was made."""
    finished = (path for path in (folder / "scans").iterdir() if not path.name.startswith("."))
    return {path.name: path.stat().st_mtime_ns for path in finished}


def test_workers_change_nothing(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4)
    calls: list[tuple[int, int]] = []
    one = prepare(cohort, tmp_path / "one", workers=1, progress=lambda done, total, _: calls.append((done, total)))
    two = prepare(cohort, tmp_path / "two", workers=2)
    assert one.index == two.index
    assert one.sha256 == two.sha256
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for a, b in zip(sorted((tmp_path / "one").rglob("*.*")), sorted((tmp_path / "two").rglob("*.*")), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_only_what_changed_is_redone(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 3)
    folder = tmp_path / "prepared"
    first = prepare(cohort, folder, workers=1)
    before = stamps(folder)
    assert prepare(cohort, folder, workers=1).index == first.index
    assert stamps(folder) == before
    image = nib.load(cohort.scans[1].image)
    changed = np.asarray(image.dataobj).copy()
    changed[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(changed, image.affine), cohort.scans[1].image)
    second = prepare(cohort, folder, workers=1)
    after = stamps(folder)
    assert len(after) == 3, "the old one is taken away"
    assert len(after.items() & before.items()) == 2
    assert second.sha256 != first.sha256
    assert [a.key == b.key for a, b in zip(first.index.scans, second.index.scans, strict=True)] == [True, False, True]


def test_a_header_whose_voxels_changed_is_packed_again(tmp_path: Path) -> None:
    """A MetaImage's voxels lie in a file beside it, and the header stays as it was."""
    (scan,) = small_cohort(tmp_path, 1).scans
    header, voxels = tmp_path / "label.mhd", tmp_path / "label.raw"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(scan.label)), str(header))
    cohort = Cohort(tmp_path, "phantoms", (dataclasses.replace(scan, label=header),))
    (first,) = prepare(cohort, tmp_path / "prepared", workers=1).index.scans
    (same,) = prepare(cohort, tmp_path / "prepared", workers=1).index.scans
    contour = np.fromfile(voxels, dtype=np.uint8)
    contour[np.flatnonzero(contour)[0]] = 0
    contour.tofile(voxels)
    (changed,) = prepare(cohort, tmp_path / "prepared", workers=1).index.scans
    assert same == first
    assert changed.key != first.key


def test_a_touched_file_is_read_but_not_packed_again(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 2)
    folder = tmp_path / "prepared"
    first = prepare(cohort, folder, workers=1)
    before = stamps(folder)
    os.utime(cohort.scans[0].image)
    assert prepare(cohort, folder, workers=1).sha256 == first.sha256
    assert stamps(folder) == before


def test_the_same_content_under_other_names_and_formats(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 2)
    renamed = []
    for number, scan in enumerate(cohort.scans):
        image, label = tmp_path / f"volume-{number}.nii", tmp_path / f"segmentation-{number}.nii"
        nib.save(nib.load(scan.image), image)
        nib.save(nib.load(scan.label), label)
        renamed.append(LabelledScan(f"volume-{number}", image, label, "someone"))
    other = Cohort(tmp_path, "other", tuple(renamed))
    assert prepare(other, tmp_path / "a", workers=1).sha256 == prepare(cohort, tmp_path / "b", workers=1).sha256


def test_faulty_scans_are_left_out_by_name(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 3)
    cohort.scans[0].image.write_bytes(cohort.scans[0].image.read_bytes()[:500])
    shutil.copy(cohort.scans[2].label, cohort.scans[1].label)
    cohort = dataclasses.replace(cohort, incomplete=("scan_9: has no label",))
    prepared = prepare(cohort, tmp_path / "prepared", workers=1)
    assert [entry.name for entry in prepared.index.scans] == ["scan_2"]
    reasons = {one.name: one.reason for one in prepared.index.left_out}
    assert "scan_0.nii.gz" in reasons["scan_0"]
    assert "not on the grid of its scan" in reasons["scan_1"]
    assert reasons["scan_9"] == "scan_9: has no label"


def test_nothing_to_prepare(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 1)
    cohort.scans[0].image.write_bytes(b"")
    with pytest.raises(CohortError, match="none of its 1 scans could be prepared; the first"):
        prepare(cohort, tmp_path / "prepared", workers=1)
    with pytest.raises(CohortError, match="holds no labelled scan"):
        prepare(dataclasses.replace(cohort, scans=()), tmp_path / "prepared", workers=1)


def killed_preparing(cohort: Path, folder: Path) -> None:
    """Prepare in another process, slowly, and kill -9 it once two scans are done."""
    code = (
        "import pathlib, pickle, time\n"
        "import palpate.cohort.prepare as p\n"
        f"cohort = pickle.loads(pathlib.Path({str(cohort)!r}).read_bytes())\n"
        "slow = p.pack\n"
        "p.pack = lambda *a: (slow(*a), time.sleep(0.4))[0]\n"
        f"p.prepare(cohort, {str(folder)!r}, workers=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    journal = folder / "journal.jsonl"
    for _ in range(600):
        if journal.is_file() and len(journal.read_text().split()) >= 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_kill_9_and_again(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 5)
    (tmp_path / "cohort.pickle").write_bytes(pickle.dumps(cohort))
    whole = prepare(cohort, tmp_path / "whole", workers=1)
    folder = tmp_path / "prepared"
    killed_preparing(tmp_path / "cohort.pickle", folder)
    before = stamps(folder)
    assert 2 <= len(before) < 5
    (folder / "scans" / ".palpate-torn").mkdir()
    (folder / "scans" / ".palpate-torn" / "image.b2nd").write_bytes(b"half")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('\n{"name": "torn')
    with pytest.raises(CohortError, match="its preparation was not finished"):
        PreparedCohort.open(folder)
    again = prepare(cohort, folder, workers=1)
    assert again.index == whole.index
    assert before.items() <= stamps(folder).items(), "what was finished was not done again"
    assert not list((folder / "scans").glob(".palpate-*"))
    assert not (folder / "journal.jsonl").exists()


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 2)
    folder = tmp_path / "prepared"
    first = prepare(dataclasses.replace(cohort, scans=cohort.scans[:1]), folder, workers=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match="what was finished is kept"):
            prepare(cohort, folder, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert PreparedCohort.open(folder).index == first.index
    assert not list((folder / "scans").glob(".palpate-*"))
    assert len(prepare(cohort, folder, workers=1).index.scans) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_worker_that_dies_costs_its_scan(tmp_path: Path) -> None:
    """A named pipe holds its reader until somebody writes to it: that happens when both other scans are packed."""
    cohort, folder = small_cohort(tmp_path, 3), tmp_path / "prepared"
    held, others_done = tmp_path / "held.nii.gz", threading.Event()
    os.mkfifo(held)

    def kill() -> None:
        others_done.wait()
        with held.open("wb"):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    scans = (dataclasses.replace(cohort.scans[0], image=held), *cohort.scans[1:])
    message = rf"^{cohort.scans[0].name}: a worker process was killed by signal 9, .*\. Run the same command again"
    with pytest.raises(WorkerError, match=message):
        prepare(
            dataclasses.replace(cohort, scans=scans),
            folder,
            workers=2,
            progress=lambda done, *_: others_done.set() if done == 2 else None,
        )
    killer.join()
    before = stamps(folder)
    assert len(before) == 2
    assert len(prepare(cohort, folder, workers=1).index.scans) == 3
    assert before.items() <= stamps(folder).items(), "what was finished is not packed again"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    cohort, folder = small_cohort(tmp_path, 1), tmp_path / "prepared"
    message = rf"prepared: another run prepares it, process {os.getpid()} on .*; let it end"

    def meanwhile(*_: object) -> None:
        with pytest.raises(CohortError, match=message):
            prepare(cohort, folder, workers=1)

    prepare(cohort, folder, workers=1, progress=meanwhile)
    assert sorted(path.name for path in folder.iterdir()) == ["cohort.json", "scans"]


def test_a_journal_of_the_version_before_is_gone_on_with(tmp_path: Path) -> None:
    """Its lines begin with a line break, and the last one is torn."""
    cohort, folder = small_cohort(tmp_path, 2), tmp_path / "prepared"
    entries = prepare(cohort, folder, workers=1).index.scans
    before = stamps(folder)
    (folder / "cohort.json").unlink()
    lines = [f"\n{entry.model_dump_json()}" for entry in entries]
    (folder / "journal.jsonl").write_text("".join([*lines, lines[0][:50]]))
    assert prepare(cohort, folder, workers=1).index.scans == entries
    assert stamps(folder) == before


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write in .*file"):
        prepare(small_cohort(tmp_path, 1), tmp_path / "file", workers=1)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    """A cohort's own folder, whose scans lie in "scans": nothing in it is touched."""
    cohort = small_cohort(tmp_path, 2)
    (tmp_path / "scans" / "patient").mkdir(parents=True)
    (tmp_path / "scans" / "patient" / "slice.dcm").write_text("precious")
    with pytest.raises(OutputError, match="holds other files; name a new folder"):
        prepare(cohort, tmp_path, workers=1)
    folder = tmp_path / "prepared"
    prepare(cohort, folder, workers=1)
    (folder / "scans" / "mine").mkdir()
    prepare(cohort, folder, workers=1)
    assert (folder / "scans" / "mine").is_dir(), "only what preparing made is tidied away"
    assert (tmp_path / "scans" / "patient" / "slice.dcm").read_text() == "precious"


def test_another_cohorts_scans_are_not_replaced(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, other = small_cohort(tmp_path / "one", 3), small_cohort(tmp_path / "two", 2)
    folder = tmp_path / "prepared"
    prepare(first, folder, workers=1)
    before = stamps(folder)
    with pytest.raises(
        OutputError, match=r"holds 3 prepared scans of another cohort \(.*one/scan_0\.nii\.gz, \.\.\.\)"
    ):
        prepare(other, folder, workers=1)
    assert stamps(folder) == before
    assert not (folder / "journal.jsonl").exists()
    assert len(PreparedCohort.open(folder).index.scans) == 3
    assert len(prepare(other, folder, workers=1, overwrite=True).index.scans) == 2


def test_a_cohort_that_grew_or_is_listed_elsewhere_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    whole = small_cohort(tmp_path / "scans", 3)
    folder = tmp_path / "prepared"
    for origin, scans in (
        (tmp_path / "scans", whole.scans[:1]),
        (tmp_path / "scans", whole.scans[1:]),  # in the same folder, all others than before
        (tmp_path / "elsewhere.csv", whole.scans),
    ):
        prepared = prepare(Cohort(origin, "phantoms", scans), folder, workers=1)
        assert [entry.name for entry in prepared.index.scans] == [scan.name for scan in scans]
