"""A picture of each mask of a batch: drawn with it, drawn later, and what is in its way."""

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import palpate.batch.pictures
from palpate.batch import Batch, JobPictures, Summary, read_jobs
from palpate.errors import BatchError, OutputError, ScanError
from palpate.inference import InferenceSettings
from palpate.pictures import is_own_picture, lay_out, save_picture
from palpate.predictor import Predictor
from palpate.prompts import Click
from small import small_bundle, small_cohort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans, a model, a list of three jobs, and a folder for some of the masks."""
    small_cohort(tmp_path, 2)
    small_bundle().save(tmp_path / "small.safetensors")
    (tmp_path / "masks").mkdir()
    listing(tmp_path, "mask_0.nii.gz", "masks/mask_1.nrrd", "mask_2.nii.gz")
    return tmp_path


def listing(folder: Path, *outputs: str) -> None:
    rows = [f'scan_{n % 2}.nii.gz,"click=2{n},24,16",{output}' for n, output in enumerate(outputs)]
    (folder / "jobs.csv").write_text("\n".join(["scan,prompts,output", *rows]) + "\n")


def batch(
    folder: Path, *, overwrite: bool = False, drawn: bool = True, unit: str | None = None, jobs: str = "jobs.csv"
) -> Batch:
    settings = InferenceSettings(str(folder / "small.safetensors"), device="cpu")
    pictures = JobPictures(folder / "pictures", unit) if drawn else None
    results = (folder / jobs).with_name("results.csv")
    return Batch(read_jobs(folder / jobs), results, settings, overwrite=overwrite, pictures=pictures)


def run(folder: Path, **more: Any) -> Summary:
    return batch(folder, **more).run()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "pictures").iterdir())


def test_each_mask_has_a_picture_called_after_it(folder: Path) -> None:
    summary = run(folder)
    assert (summary.failed, summary.undrawn) == ([], ())
    assert names(folder) == ["mask_0.png", "mask_2.png", "masks-mask_1.png"]
    assert all(is_own_picture(path) for path in (folder / "pictures").iterdir())


@pytest.mark.parametrize(
    ("output", "name"),
    [("a.nii.gz", "a.png"), ("x/y/a.nii", "x-y-a.png"), ("../a.b.mha", "a.b.png"), ("/tmp/a.nrrd", "tmp-a.png")],
)
def test_names_by_hand(folder: Path, output: str, name: str) -> None:
    (folder / "x" / "y").mkdir(parents=True)
    listing(folder, output)
    (job,) = read_jobs(folder / "jobs.csv")
    assert JobPictures(Path("shown")).place(job) == Path("shown", name)


def test_what_is_drawn_is_the_mask_and_the_prompts_of_the_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, Any, str | None]] = []

    def record(volume: Any, mask: Any, prompts: Any, *, unit: str | None, window: Any, title: str) -> Any:
        lay_out(volume, [mask], prompts)  # they belong together
        drawn.append((mask.voxels, prompts, title))
        raise ScanError("not drawn")

    monkeypatch.setattr(palpate.batch.pictures, "lesion_picture", record)
    summary = run(folder)
    voxels = [row.voxels for row in summary.rows]
    first, second = voxels[0], voxels[1]
    assert (first, [Click((20, 24, 16))], "mask_0.nii.gz") in drawn
    assert (second, [Click((21, 24, 16))], "masks/mask_1.nrrd") in drawn
    # The same from the files, where the masks were there before.
    before, drawn[:] = list(drawn), []
    run(folder)
    assert sorted(map(str, drawn)) == sorted(map(str, before))


def test_a_picture_that_fails_costs_no_mask_and_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = save_picture

    def full(figure: Any, path: Path, *, mark: str) -> None:
        if path.name == "mask_2.png":
            raise OutputError("cannot write it: no space left")
        real(figure, path, mark=mark)

    monkeypatch.setattr(palpate.batch.pictures, "save_picture", full)
    summary = run(folder)
    assert summary.failed == []
    assert [(job.row, reason) for job, reason in summary.undrawn] == [(4, "cannot write it: no space left")]
    assert (folder / "mask_2.nii.gz").exists()
    assert names(folder) == ["mask_0.png", "masks-mask_1.png"]
    monkeypatch.undo()
    monkeypatch.setattr(Predictor, "predict", None)  # no mask is made again
    again = run(folder)
    assert (again.before, again.failed, again.undrawn) == (3, [], ())
    assert len(names(folder)) == 3


def test_pictures_can_be_asked_for_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, drawn=False)
    assert not (folder / "pictures").exists()
    monkeypatch.setattr(Predictor, "predict", None)
    heard: list[int] = []
    assert batch(folder).run(progress=lambda done, job: heard.append(done)).undrawn == ()
    assert heard == [3, 3, 3]
    assert len(names(folder)) == 3
    before = {path: path.stat().st_mtime_ns for path in (folder / "pictures").iterdir()}
    run(folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "pictures").iterdir()} == before


def test_a_job_that_changed_has_a_new_picture_and_no_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder)
    text = (folder / "jobs.csv").read_text()
    (folder / "jobs.csv").write_text(text.replace("20,24,16", "19,24,16"))
    before = (folder / "pictures" / "mask_0.png").read_bytes()
    run(folder)
    assert (folder / "pictures" / "mask_0.png").read_bytes() != before
    (folder / "jobs.csv").write_text(text)

    def full(figure: Any, path: Path, *, mark: str) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(palpate.batch.pictures, "save_picture", full)
    assert len(run(folder).undrawn) == 1
    # It would show the mask of before.
    assert names(folder) == ["mask_2.png", "masks-mask_1.png"]


def test_a_picture_of_other_prompts_or_another_unit_is_drawn_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder)
    before = {name: (folder / "pictures" / name).read_bytes() for name in names(folder)}
    text = (folder / "jobs.csv").read_text()
    (folder / "jobs.csv").write_text(text.replace("20,24,16", "19,24,16"))
    run(folder, drawn=False)
    monkeypatch.setattr(Predictor, "predict", None)  # the masks are there
    run(folder)
    after = {name: (folder / "pictures" / name).read_bytes() for name in names(folder)}
    assert [name for name in before if after[name] != before[name]] == ["mask_0.png"]
    run(folder, unit="SUV")
    assert all((folder / "pictures" / name).read_bytes() != after[name] for name in after)


def test_a_picture_of_another_lists_mask_is_replaced_only_when_asked(folder: Path) -> None:
    run(folder)
    before = {name: (folder / "pictures" / name).read_bytes() for name in names(folder)}
    (folder / "second").mkdir()
    (folder / "second" / "jobs.csv").write_text(
        'scan,prompts,output\n../scan_0.nii.gz,"click=20,24,16",mask_0.nii.gz\n'
    )
    message = r"row 2: .*mask_0.png is the picture of another mask than .*second/mask_0.nii.gz, as of another list's"
    with pytest.raises(BatchError, match=message):
        batch(folder, jobs="second/jobs.csv")
    assert {name: (folder / "pictures" / name).read_bytes() for name in names(folder)} == before
    assert run(folder, jobs="second/jobs.csv", overwrite=True).undrawn == ()
    assert (folder / "pictures" / "mask_0.png").read_bytes() != before["mask_0.png"]


def test_a_mask_that_no_longer_lies_on_the_scans_grid_is_not_drawn(folder: Path) -> None:
    run(folder, drawn=False)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), dtype=np.uint8), np.eye(4)), folder / "mask_0.nii.gz")
    ((job, reason),) = run(folder).undrawn
    assert job.row == 2
    assert "the mask lies on another grid than the scan: shape (4, 4, 4)" in reason


def test_a_file_of_others_is_replaced_only_when_asked(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "mask_2.png").write_bytes(b"of another program")
    with pytest.raises(BatchError, match=r"nothing was done: row 4: .*mask_2.png exists, and Palpate did not draw it"):
        batch(folder)
    assert not (folder / "mask_0.nii.gz").exists()
    assert run(folder, overwrite=True).undrawn == ()
    assert is_own_picture(folder / "pictures" / "mask_2.png")
    assert run(folder).undrawn == ()


def test_two_jobs_of_one_picture_are_refused(folder: Path) -> None:
    listing(folder, "masks/a.nii.gz", "masks-a.nii.gz", "b.nii.gz", "b.nrrd")
    message = "row 3: its picture would be masks-a.png, as that of row 2; .*row 5: its picture would be b.png"
    with pytest.raises(BatchError, match=message):
        batch(folder)
    assert not (folder / "pictures").exists()


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    (folder / "pictures").write_text("a file")
    with pytest.raises(OutputError, match=r"pictures is a file, and pictures go into a folder; name a folder"):
        batch(folder)
    settings = InferenceSettings(str(folder / "small.safetensors"), device="cpu")
    there = JobPictures(folder / "no" / "such")
    with pytest.raises(OutputError, match="name a folder in one that exists"):
        Batch(read_jobs(folder / "jobs.csv"), folder / "results.csv", settings, pictures=there)


def test_workers_draw_too(folder: Path) -> None:
    shutil.rmtree(folder / "pictures", ignore_errors=True)
    summary = batch(folder).run(workers=2)
    assert (summary.failed, summary.undrawn) == ([], ())
    assert len(names(folder)) == 3
