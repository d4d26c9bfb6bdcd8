"""A batch over several processes: the same masks as one, a death and a timeout that cost one job, a start that fails.

A named pipe for a scan holds its reader until somebody writes to it, so a worker is at work as long as a test wants.
"""

import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palpate.batch import Batch, read_jobs
from palpate.errors import DeviceError, ModelError
from palpate.inference import InferenceSettings
from small import small_bundle, small_cohort

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    small_cohort(folder, 2)
    small_bundle().save(folder / "small.safetensors")
    return folder


def batch(folder: Path, out: Path, count: int = 6, device: str = "cpu") -> Batch:
    rows = [f'scan_{n % 2}.nii.gz,"click=2{n},24,16",{out}/mask_{n}.nii.gz' for n in range(count)]
    (folder / "jobs.csv").write_text("\n".join(["scan,prompts,output", *rows]))
    jobs = read_jobs(folder / "jobs.csv")
    return Batch(jobs, out / "results.csv", InferenceSettings(str(folder / "small.safetensors"), device=device))


def batch_with_held_scan(folder: Path, out: Path) -> Batch:
    """A scan that holds its reader goes first; the others' jobs wait behind it."""
    os.mkfifo(out / "held.nii.gz")
    rows = [f'{folder}/scan_0.nii.gz,"click=20,24,16",{name}.nii.gz' for name in "abc"]
    rows.insert(0, 'held.nii.gz,"click=20,24,16",held_mask.nii.gz')
    (out / "jobs.csv").write_text("\n".join(["scan,prompts,output", *rows]))
    jobs = read_jobs(out / "jobs.csv")
    return Batch(jobs, out / "results.csv", InferenceSettings(str(folder / "small.safetensors"), device="cpu"))


def test_two_workers_make_the_masks_of_one(folder: Path, tmp_path: Path) -> None:
    masks = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        out.mkdir()
        summary = batch(folder, out).run(workers)
        assert summary.failed == []
        assert [row.output for row in summary.rows] == [str(out / f"mask_{n}.nii.gz") for n in range(6)]
        masks[workers] = [(out / f"mask_{n}.nii.gz").read_bytes() for n in range(6)]
        assert sorted(path.name for path in out.iterdir()) == [*(f"mask_{n}.nii.gz" for n in range(6)), "results.csv"]
    assert masks[1] == masks[2]
    assert len(set(masks[1])) == 6
    assert multiprocessing.active_children() == []


@needs_pipes
def test_a_worker_that_is_killed_fails_its_job_and_is_replaced(folder: Path, tmp_path: Path) -> None:
    held = batch_with_held_scan(folder, tmp_path)
    pids: list[int] = []

    def kill() -> None:
        with (tmp_path / "held.nii.gz").open("wb"):  # opens once the worker reads it
            pids.extend(child.pid or 0 for child in multiprocessing.active_children())
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    # A timeout of a day: one worker process instead of this one.
    rows = {Path(row.output).name: row for row in held.run(workers=1, timeout=86400).rows}
    killer.join()
    assert len(pids) == 1
    died = rows.pop("held_mask.nii.gz")
    assert (died.status, died.error) == ("failed", "WorkerDied")
    assert "was killed by signal 9, perhaps for want of memory; run the same command again, with fewer" in died.message
    assert {name: row.status for name, row in rows.items()} == dict.fromkeys(
        ("a.nii.gz", "b.nii.gz", "c.nii.gz"), "done"
    )
    assert (tmp_path / "c.nii.gz").exists()
    assert multiprocessing.active_children() == []


@needs_pipes
def test_a_job_that_takes_too_long_fails_and_is_done_again(folder: Path, tmp_path: Path) -> None:
    rows = {Path(row.output).name: row for row in batch_with_held_scan(folder, tmp_path).run(timeout=6).rows}
    late = rows.pop("held_mask.nii.gz")
    assert (late.status, late.error) == ("failed", "JobTimeout")
    assert late.message == (
        "took longer than 6 seconds and was stopped; allow more (--timeout) and run the same command again"
    )
    assert {row.status for row in rows.values()} == {"done"}
    assert multiprocessing.active_children() == []
    (tmp_path / "held.nii.gz").unlink()
    (tmp_path / "held.nii.gz").write_bytes((folder / "scan_1.nii.gz").read_bytes())
    jobs = read_jobs(tmp_path / "jobs.csv")
    again = Batch(
        jobs, tmp_path / "results.csv", InferenceSettings(str(folder / "small.safetensors"), device="cpu")
    ).run()
    assert (again.before, again.failed) == (3, [])


def test_workers_that_cannot_start_say_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'abacus' is not here"):
        batch(folder, tmp_path, 1, device="abacus").run(2)
    assert list(tmp_path.glob("mask_*")) == []


def test_a_model_that_changed_meanwhile_is_not_used(folder: Path, tmp_path: Path) -> None:
    begun = batch(folder, tmp_path)
    model = folder / "small.safetensors"
    before = model.read_bytes()
    try:
        small_bundle(seed=1).save(model)
        with pytest.raises(ModelError, match="was changed while the batch ran; run the same command again"):
            begun.run(2)
    finally:
        model.write_bytes(before)
    assert list(tmp_path.glob("mask_*")) == []


def test_cores_are_shared_out(folder: Path, tmp_path: Path) -> None:
    of_all = batch(folder, tmp_path)
    cores = torch.get_num_threads()
    assert of_all._worker_start(1).settings.threads == cores
    assert of_all._worker_start(2).settings.threads == max(1, cores // 2)
    assert of_all._worker_start(cores + 1).settings.threads == 1
    of_all._start = replace(of_all._start, settings=InferenceSettings(threads=3))
    assert of_all._worker_start(2).settings.threads == 3, "what the settings say"
