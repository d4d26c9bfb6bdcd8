"""A batch in this process: what is done, what is done again, and what fails."""

import csv
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import palpate.batch.work
import palpate.formats.writing
from palpate.batch import Batch, Summary, read_jobs
from palpate.batch.jobs import Job
from palpate.errors import BatchError, ModelError, OutputError, SettingsError
from palpate.formats import read
from palpate.inference import InferenceSettings
from palpate.lesions import Keep, Postprocessing
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompts import Click
from small import CPU, prompted_bundle, small_bundle, small_cohort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans, a model, and a list of two jobs a scan, turn by turn."""
    small_cohort(tmp_path, 2)
    small_bundle().save(tmp_path / "small.safetensors")
    listing(tmp_path, *(f'scan_{n % 2}.nii.gz,"click=2{n},24,16",mask_{n}.nii.gz' for n in range(4)))
    return tmp_path


def listing(folder: Path, *rows: str, header: str = "scan,prompts,output") -> None:
    (folder / "jobs.csv").write_text("\n".join([header, *rows]) + "\n")


def batch(folder: Path, model: str = "small", **more: Any) -> Batch:
    jobs = read_jobs(folder / "jobs.csv")
    settings = InferenceSettings(str(folder / f"{model}.safetensors"), device="cpu", **more)
    return Batch(jobs, folder / "results.csv", settings)


def run(folder: Path, **more: Any) -> Summary:
    return batch(folder, **more).run()


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("mask_*")}


def test_masks_are_those_of_the_predictor_and_rows_tell_them(folder: Path) -> None:
    heard: list[tuple[int, str]] = []
    summary = batch(folder).run(progress=lambda done, job: heard.append((done, job.output.name)))
    assert heard == [(1, "mask_0.nii.gz"), (2, "mask_2.nii.gz"), (3, "mask_1.nii.gz"), (4, "mask_3.nii.gz")]
    assert (summary.before, summary.failed) == (0, [])
    predictor = Predictor(small_bundle(), CPU)
    for number, row in enumerate(results(folder)):
        predictor.set_volume(read(folder / f"scan_{number % 2}.nii.gz"))
        mask = predictor.predict([Click((20 + number, 24, 16))]).mask
        saved = read(folder / f"mask_{number}.nii.gz")
        assert np.array_equal(saved.array > 0, mask.full())
        assert (row["scan"], row["status"]) == (f"scan_{number % 2}.nii.gz", "done")
        assert row["output"] == f"mask_{number}.nii.gz"
        assert int(row["voxels"]) == mask.voxels > 0
        assert float(row["volume_ml"]) == pytest.approx(mask.voxels * 0.08, abs=1e-4)  # voxels of 4 x 4 x 5 mm
        assert [float(edge) for edge in row["extent_mm"].split(" x ")] == pytest.approx(mask.extent_mm, abs=0.01)
        assert float(row["seconds"]) > 0


def test_a_scan_is_read_once_for_all_its_jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(path: Path, series: str | None, warn: bool) -> Any:
        seen.append(path.name)
        assert not warn
        return read(path, series=series, warn=warn)

    monkeypatch.setattr(palpate.batch.work, "read", counted)
    run(folder)
    assert seen == ["scan_0.nii.gz", "scan_1.nii.gz"]


def test_again_nothing_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder)
    before, told = stamps(folder), results(folder)
    monkeypatch.delattr(palpate.batch.work, "read")
    summary = run(folder)
    assert (summary.before, len(summary.rows)) == (4, 4)
    assert stamps(folder) == before
    assert results(folder) == told


def redone(folder: Path, **more: Any) -> set[str]:
    """The masks that another run makes."""
    before = stamps(folder)
    assert run(folder, **more).failed == []
    return {name for name, stamp in stamps(folder).items() if before.get(name) != stamp}


def test_again_what_changed_is_done(folder: Path) -> None:
    run(folder)
    text = (folder / "jobs.csv").read_text()
    (folder / "jobs.csv").write_text(text.replace("click=22", "click=25"))
    assert redone(folder) == {"mask_2.nii.gz"}
    (folder / "jobs.csv").write_text(text)
    assert redone(folder) == {"mask_2.nii.gz"}, "the older row of that output does not count any more"
    os.utime(folder / "scan_1.nii.gz", ns=(0, 0))
    assert redone(folder) == {"mask_1.nii.gz", "mask_3.nii.gz"}
    (folder / "mask_0.nii.gz").unlink()
    assert redone(folder) == {"mask_0.nii.gz"}
    assert redone(folder, precision="bfloat16") == set(stamps(folder))
    small_bundle(seed=1).save(folder / "small.safetensors")
    assert redone(folder, precision="bfloat16") == set(stamps(folder))
    assert redone(folder, precision="bfloat16") == set()


@pytest.mark.parametrize(
    ("more", "arithmetic"),
    [
        ({}, "float32 32"),
        ({"budget": 0}, "float32 0"),
        ({"zoom": False}, "float32 no zoom"),
        ({"precision": "bfloat16", "budget": 4, "threads": 1}, "bfloat16 4"),
    ],
)
def test_keys_are_those_of_the_version_before(folder: Path, more: dict[str, Any], arithmetic: str) -> None:
    """So that what it had done is not done again; what of the settings changes no mask is not in them."""
    listing(folder, 'scan_0.nii.gz,"click=20,24,16",mask_0.nii.gz')
    stat = (folder / "scan_0.nii.gz").stat()
    content = {
        "scan": ["scan_0.nii.gz", 1, stat.st_size, stat.st_mtime_ns],
        "series": None,
        "prompts": "click=20,24,16",
        "named": [],
        "outputs": ["mask_0.nii.gz"],
        "model": f"{small_bundle().answers_sha256()} {arithmetic}",
    }
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (folder / "results.csv").write_text(
        "key,scan,output,status,error,message,volume_ml,voxels,extent_mm,quality,seconds,warnings\n"
        f"{key},scan_0.nii.gz,mask_0.nii.gz,done,,,1.5,12,1.00 x 2.00 x 3.00,,2.5,\n"
    )
    (folder / "mask_0.nii.gz").write_bytes(b"mended")
    now, before = batch(folder, **more), batch(folder, **more, rules=1)
    assert now.missing == before.missing == ()
    assert now.of_earlier_rules == list(now.jobs)
    assert before.of_earlier_rules == []
    (folder / "mask_0.nii.gz").unlink()
    assert len(batch(folder, **more).missing) == 1


def test_again_elsewhere_nothing_is_done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The whole folder moved, or reached by a link: a mask that was mended by hand stays."""
    run(folder)
    (folder / "mask_0.nii.gz").write_bytes(b"mended")
    link = tmp_path_factory.mktemp("other") / "link"
    link.symlink_to(folder)
    assert redone(link) == set()
    moved = folder.rename(folder.with_name("moved"))
    assert redone(moved) == set()
    assert (moved / "mask_0.nii.gz").read_bytes() == b"mended"


def test_again_after_a_while_out_of_the_list_nothing_is_done(folder: Path) -> None:
    """A mask that was mended by hand stays, though its row was away for a run."""
    run(folder)
    text = (folder / "jobs.csv").read_text()
    (folder / "mask_2.nii.gz").write_bytes(b"mended")
    (folder / "jobs.csv").write_text("".join(line for line in text.splitlines(True) if "mask_2" not in line))
    assert redone(folder) == set()
    (folder / "jobs.csv").write_text(text)
    assert redone(folder) == set()
    assert (folder / "mask_2.nii.gz").read_bytes() == b"mended"


@pytest.mark.parametrize("name", ["mask_1.nii.gz", "p_1.nrrd"])
def test_a_file_of_others_is_replaced_only_when_asked(folder: Path, name: str) -> None:
    """Before any work, naming the row; as a mask or as a probability."""
    row = 'scan_0.nii.gz,"click=2{0},24,16",mask_{0}.nii.gz,p_{0}.nrrd'
    listing(folder, row.format(0), row.format(1), header="scan,prompts,output,probability")
    (folder / name).write_bytes(b"of another program")
    words = rf"^nothing was done: row 3: .*{name} exists, and Palpate did not write it, .*; give --overwrite to repl"
    with pytest.raises(BatchError, match=words):
        batch(folder)
    assert not (folder / "mask_0.nii.gz").exists()
    assert (folder / name).read_bytes() == b"of another program"
    jobs, settings = read_jobs(folder / "jobs.csv"), InferenceSettings(str(folder / "small.safetensors"), device="cpu")
    assert Batch(jobs, folder / "results.csv", settings, overwrite=True).run().failed == []
    assert redone(folder) == set()


def test_a_mended_mask_whose_job_changed_is_replaced_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no mask is read of which nothing changed, so that going on stays cheap."""
    run(folder)
    mended = nib.load(folder / "mask_2.nii.gz")
    array = np.asarray(mended.dataobj).copy()
    array[0, 0, 0] = 1 - array[0, 0, 0]
    nib.save(nib.Nifti1Image(array, mended.affine, mended.header), folder / "mask_2.nii.gz")
    text = (folder / "jobs.csv").read_text()
    (folder / "jobs.csv").write_text(text.replace("click=22", "click=25"))
    before = stamps(folder)
    with pytest.raises(BatchError, match=r"row 4: .*mask_2\.nii\.gz exists, and .* it was changed since; give --overw"):
        batch(folder)
    assert stamps(folder) == before
    (folder / "jobs.csv").write_text(text)
    monkeypatch.delattr(palpate.formats.writing, "is_own")
    assert batch(folder).missing == ()


def test_many_files_of_others_are_counted(folder: Path) -> None:
    listing(folder, *(f'scan_0.nii.gz,"click=20,24,16",mask_{n}.nii.gz' for n in range(7)))
    for number in range(7):
        (folder / f"mask_{number}.nii.gz").write_bytes(b"of another program")
    with pytest.raises(BatchError, match=r"row 2: .*; row 6: .*; and 2 more$"):
        batch(folder)


def test_results_of_an_earlier_version(tmp_path: Path) -> None:
    """A list, its masks and its results as revision 7501bab wrote them.

    Its keys are of the `palpate-tiny` of weights fcc27337; another bundled model needs another fixture.
    """
    shutil.copytree(Path(__file__).parent / "of_7501bab", tmp_path, dirs_exist_ok=True)
    os.utime(tmp_path / "scan.nii.gz", (1_700_000_000, 1_700_000_000))
    os.utime(tmp_path / "before.nii.gz", (1_600_000_000, 1_600_000_000))
    jobs = read_jobs(tmp_path / "jobs.csv")
    old = Batch(jobs, tmp_path / "jobs.results.csv", CPU)
    assert [job.row for job in old.missing] == [4], "its scan is missing"
    summary = old.run()
    assert [(row.voxels, row.quality, row.error) for row in summary.rows] == [
        (97, 0.621, ""), (96, 0.636, ""), (None, None, "ScanError"),
    ]  # fmt: skip
    with pytest.raises(BatchError, match=r"row 2: .*a\.nii\.gz exists, .* or an earlier version did, .*; row 3: "):
        Batch(jobs, tmp_path / "jobs.results.csv", InferenceSettings(device="cpu", zoom=False))


def test_again_a_mask_without_its_voxels_is_done(folder: Path) -> None:
    """A MetaImage header is of no use without its .zraw."""
    listing(folder, 'scan_0.nii.gz,"click=20,24,16",mask_0.mhd')
    run(folder)
    assert redone(folder) == set()
    (folder / "mask_0.zraw").unlink()
    assert redone(folder) == {"mask_0.mhd", "mask_0.zraw"}


def test_a_failure_is_a_row_and_is_tried_again(folder: Path) -> None:
    (folder / "bad.nii.gz").write_bytes(b"hello")
    (folder / "bad.json").write_text("{")
    listing(
        folder,
        'gone.nii.gz,"click=1,2,3",mask_0.nii.gz',
        'bad.nii.gz,"click=1,2,3",mask_1.nii.gz',
        'scan_0.nii.gz,"click=1,2,99",mask_2.nii.gz',
        'scan_0.nii.gz,"not=1,2,3",mask_3.nii.gz',
        "scan_0.nii.gz,bad.json,mask_4.nii.gz",
        "scan_0.nii.gz,gone.json,mask_5.nii.gz",
        'scan_0.nii.gz,"click=20,24,16",mask_6.nii.gz',
    )
    summary = run(folder)
    assert [row.status for row in summary.rows] == ["failed"] * 6 + ["done"]
    assert [job.row for job, _ in summary.failed] == [2, 3, 4, 5, 6, 7]
    rows = results(folder)
    kinds = ["ScanError", "FormatError", "PromptError", "PromptError", "PromptError", "PromptError", ""]
    assert [row["error"] for row in rows] == kinds
    for row, words in zip(
        rows,
        ("no such file", "bad.nii.gz", "lies outside the scan", "nothing says where", "not a file of prompts",
         "gone.json: cannot be read", ""),
        strict=True,
    ):  # fmt: skip
        assert words in row["message"]
    assert stamps(folder).keys() == {"mask_6.nii.gz"}
    (folder / "scan_0.nii.gz").rename(folder / "gone.nii.gz")
    (folder / "gone.json").write_text('{"version": 1, "prompts": [{"kind": "click", "index": [1, 2, 3]}]}')
    again = run(folder)
    assert again.rows[0].status == "done"
    assert again.before == 0, "the last job's scan is gone, so it is asked for again"
    assert "no such file" in again.rows[6].message
    assert (folder / "mask_6.nii.gz").exists(), "an old mask is left where it was"


def test_a_full_disk_fails_a_job_and_leaves_nothing_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for masks of one job only; its probability, which was written before, is taken away."""
    row = 'scan_0.nii.gz,"click=20,24,16",mask_{0}.nii.gz,{1}'
    listing(folder, row.format(0, "p_0.nii.gz"), row.format(1, "p_1.nii.gz"), header="scan,prompts,output,probability")
    save = Mask.save

    def full(mask: Mask, path: str | Path) -> None:
        if Path(path).name == "mask_0.nii.gz":
            assert (folder / "p_0.nii.gz").exists()
            raise OutputError(f"cannot write {path}: No space left on device")
        save(mask, path)

    monkeypatch.setattr(Mask, "save", full)
    first, second = run(folder).rows
    assert (first.status, first.error) == ("failed", "OutputError")
    assert "No space left" in first.message
    assert second.status == "done"
    assert sorted(p.name for p in folder.glob("[mp]*_?.nii.gz")) == ["mask_1.nii.gz", "p_1.nii.gz"]
    p = np.asarray(nib.load(folder / "p_1.nii.gz").dataobj)
    assert np.array_equal(p > 0.5, np.asarray(nib.load(folder / "mask_1.nii.gz").dataobj) > 0)


def test_an_error_of_the_program_ends_its_job_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Predictor.predict

    def strange(predictor: Predictor, prompts: Any) -> Any:
        if prompts == [Click((20, 24, 16))]:
            raise RuntimeError("CUDA error:\n  out of memory")
        if prompts == [Click((22, 24, 16))]:
            raise MemoryError
        return predict(predictor, prompts)

    monkeypatch.setattr(Predictor, "predict", strange)
    rows = run(folder).rows
    assert [(row.error, row.message) for row in rows] == [
        ("RuntimeError", "CUDA error: out of memory"), ("", ""), ("MemoryError", "no more is known"), ("", ""),
    ]  # fmt: skip


def test_an_output_that_cannot_hold_the_grid_is_reported_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheared = np.diag([4.0, 4.0, 5.0, 1.0])
    sheared[0, 1] = 2
    image = nib.Nifti1Image(np.zeros((16, 16, 16), np.int16), sheared)
    nib.save(image, folder / "sheared.nii.gz")
    listing(folder, 'sheared.nii.gz,"click=8,8,8",mask_0.nrrd')
    monkeypatch.delattr(Predictor, "predict")
    (row,) = run(folder).rows
    assert row.error == "OutputError"
    assert "26.57 degrees off right angles, which .nrrd cannot hold" in row.message


def test_what_is_odd_about_a_scan_is_in_all_its_rows(folder: Path) -> None:
    """And what is odd about a job's mask, in its own alone."""
    prompted_bundle().save(folder / "prompted.safetensors")
    image = nib.load(folder / "scan_0.nii.gz")
    shifted = np.array(image.affine)
    shifted[0, 3] += 30
    before = np.zeros(image.shape, np.uint8)
    before[20:24, 22:26, 14:18] = 1
    for name, array in (("odd", np.asarray(image.dataobj)), ("before", before)):
        made = nib.Nifti1Image(array, image.affine)
        made.set_qform(shifted, code=1)
        nib.save(made, folder / f"{name}.nii.gz")
    listing(
        folder,
        "odd.nii.gz,prior=before.nii.gz,mask_0.nii.gz",
        'odd.nii.gz,"click=99,24,16",mask_1.nii.gz',
        'scan_1.nii.gz,"click=20,24,16",mask_2.nii.gz',
    )
    both, failed, none = run(folder, model="prompted").rows
    assert [row.status for row in (both, failed, none)] == ["done", "failed", "done"]
    of_scan, of_mask = both.warnings.split("; " + str(folder))
    assert "odd.nii.gz: the header's sform and qform differ" in of_scan
    assert "before.nii.gz: the header's sform and qform differ" in of_mask
    assert failed.warnings == of_scan
    assert none.warnings == ""


def test_warnings_of_libraries_are_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "set_volume", lambda *_: warnings.warn("not ours", RuntimeWarning, stacklevel=1))
    with pytest.warns(RuntimeWarning, match="not ours"):
        (row, *_) = run(folder).rows
    assert row.error == "PromptError"
    assert row.warnings == ""


def test_prompts_of_every_kind_and_place(folder: Path) -> None:
    """A cell and a file say the same: the same mask."""
    prompted_bundle().save(folder / "prompted.safetensors")
    before = np.zeros((48, 48, 32), np.uint8)
    before[20:24, 22:26, 14:18] = 1
    nib.save(nib.Nifti1Image(before, nib.load(folder / "scan_0.nii.gz").affine), folder / "before.nii.gz")
    entries = [
        {"kind": "prior", "mask": "../before.nii.gz"},
        {"kind": "box", "first": [18, 20, 12], "last": [26, 28, 20]},
        {"kind": "click", "index": [16, 24, 16], "positive": False},
    ]
    (folder / "p").mkdir()
    (folder / "p" / "all.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    listing(
        folder,
        'scan_0.nii.gz,"prior=before.nii.gz; box=18,20,12,26,28,20; not=16,24,16",mask_0.nii.gz',
        "scan_0.nii.gz,p/all.json,mask_1.nii.gz",
        'scan_0.nii.gz,"box=18,20,12,26,28,20",mask_2.nii.gz',
    )
    one, two, other = run(folder, model="prompted").rows
    assert (one.status, two.status, other.status) == ("done",) * 3
    masks = [np.asarray(nib.load(folder / f"mask_{n}.nii.gz").dataobj) for n in range(3)]
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_a_stop_between_two_jobs_keeps_the_first(folder: Path) -> None:
    def stop(done: int, job: Job) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch(folder).run(progress=stop)
    assert [Path(row["output"]).name for row in results(folder)] == ["mask_0.nii.gz", "mask_2.nii.gz"]
    before = stamps(folder)
    assert redone(folder) == {"mask_1.nii.gz", "mask_3.nii.gz"}
    assert before.items() <= stamps(folder).items()
    assert [Path(row["output"]).name for row in results(folder)] == [f"mask_{n}.nii.gz" for n in range(4)]


def test_what_cannot_be_begun(folder: Path) -> None:
    with pytest.raises(SettingsError, match="0 workers: at least one is needed"):
        batch(folder).run(workers=0)
    with pytest.raises(ModelError, match="neither a file nor a bundled name"):
        Batch((), folder / "results.csv", InferenceSettings(str(folder / "none")))
    (folder / "results.csv").write_text("mine\n")
    with pytest.raises(OutputError, match="holds something else"):
        batch(folder)
    assert stamps(folder) == {}


def test_other_postprocessing_is_done_again_and_the_default_is_not(folder: Path) -> None:
    def batched(postprocessing: Postprocessing | None) -> Batch:
        settings = InferenceSettings(str(folder / "small.safetensors"), device="cpu")
        return Batch(read_jobs(folder / "jobs.csv"), folder / "results.csv", settings, postprocessing=postprocessing)

    before = [row.voxels or 0 for row in batched(None).run().rows]
    assert batched(Postprocessing()).missing == ()
    for other in (Postprocessing(0.6), Postprocessing(keep=Keep.LARGEST), Postprocessing(0.6, Keep.CLICKED)):
        todo = batched(other)
        assert len(todo.missing) == 4
        rows = todo.run().rows
        assert [row.status for row in rows] == ["done"] * 4
        assert all((row.voxels or 0) <= voxels for row, voxels in zip(rows, before, strict=True))
        saved = [np.count_nonzero(read(folder / f"mask_{number}.nii.gz").array) for number in range(4)]
        assert saved == [row.voxels for row in rows]
        assert batched(other).missing == ()
    assert len(batched(None).missing) == 4


def test_a_mask_of_which_nothing_is_left_is_in_the_warnings(folder: Path) -> None:
    settings = InferenceSettings(str(folder / "small.safetensors"), device="cpu")
    sure = Postprocessing(1 - 1e-9)
    rows = Batch(read_jobs(folder / "jobs.csv"), folder / "results.csv", settings, postprocessing=sure).run().rows
    assert {row.warnings for row in rows} == {"no probability exceeds the threshold of 1: the mask is empty"}
