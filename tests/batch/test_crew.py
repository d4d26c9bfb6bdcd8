"""Several processes: the same masks as one, a death that costs one job, and a start that fails.

A named pipe for a scan holds its reader until somebody writes to it, so a worker is at work as long as a test wants.
"""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from palpate.batch import Batch, read_jobs
from palpate.batch.crew import Crew
from palpate.batch.queue import Queue
from palpate.batch.work import Engine
from palpate.errors import BatchError, DeviceError, ModelError
from small import small_bundle, small_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crew")
    small_cohort(folder, 2)
    small_bundle().save(folder / "small.safetensors")
    return folder


def batch(folder: Path, out: Path, count: int = 6, device: str = "cpu") -> Batch:
    rows = [f'scan_{n % 2}.nii.gz,"click=2{n},24,16",{out}/mask_{n}.nii.gz' for n in range(count)]
    (folder / "jobs.csv").write_text("\n".join(["scan,prompts,output", *rows]))
    jobs = read_jobs(folder / "jobs.csv")
    return Batch(jobs, out / "results.csv", folder / "small.safetensors", device=device)


def engine(folder: Path, **more: str) -> Engine:
    told = {"device": "cpu", "sha256": small_bundle().answers_sha256()} | more
    return Engine(folder / "small.safetensors", None, told["device"], "float32", told["sha256"])


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_worker_that_is_killed_fails_its_job_and_is_replaced(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held.nii.gz")
    rows = [f'{folder}/scan_0.nii.gz,"click=20,24,16",{name}.nii.gz' for name in "abc"]
    rows.insert(1, 'held.nii.gz,"click=20,24,16",held_mask.nii.gz')
    (tmp_path / "jobs.csv").write_text("\n".join(["scan,prompts,output", *rows]))
    jobs = read_jobs(tmp_path / "jobs.csv")
    pids: list[int] = []

    def kill() -> None:
        with (tmp_path / "held.nii.gz").open("wb"):  # opens once the worker reads it
            pids.extend(child.pid or 0 for child in multiprocessing.active_children())
            os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    # The scan that is held goes first, the others' jobs wait behind it.
    queue = Queue([jobs[1], jobs[0], *jobs[2:]], lambda job: None)
    with Crew(engine(folder), queue, 1) as crew:
        findings = {job.output.name: finding for job, finding in crew.findings()}
    killer.join()
    assert len(pids) == 1
    died = findings.pop("held_mask.nii.gz")
    assert died.error == "WorkerDied"
    assert "was killed by signal 9, perhaps for want of memory; run the same command again, with fewer" in died.message
    assert {name: finding.error for name, finding in findings.items()} == dict.fromkeys(
        ("a.nii.gz", "b.nii.gz", "c.nii.gz"), ""
    )
    assert (tmp_path / "c.nii.gz").exists()
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_say_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'abacus' is not here"):
        batch(folder, tmp_path, 1, device="abacus").run(2)
    assert list(tmp_path.glob("mask_*")) == []


def test_a_model_that_changed_meanwhile_is_not_used(folder: Path, tmp_path: Path) -> None:
    jobs = batch(folder, tmp_path).jobs
    with (
        Crew(engine(folder, sha256="another"), Queue(jobs, lambda job: None), 1) as crew,
        pytest.raises(ModelError, match="was changed while the batch ran; run the same command again"),
    ):
        list(crew.findings())


def test_a_worker_that_dies_before_it_is_ready_is_not_replaced_for_ever(folder: Path, tmp_path: Path) -> None:
    """The model's file is a named pipe that nobody writes to: the worker waits for it until it is killed."""
    jobs = batch(folder, tmp_path).jobs
    held = tmp_path / "held.safetensors"
    os.mkfifo(held)
    pids: list[int] = []

    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        pids.extend(child.pid or 0 for child in children)
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with (
        Crew(Engine(held, None, "cpu", "float32", ""), Queue(jobs, lambda job: None), 1) as crew,
        pytest.raises(BatchError, match=r"a worker process was killed by signal 9, .* before it had loaded the model"),
    ):
        list(crew.findings())
    killer.join()
    assert len(pids) == 1


def test_cores_are_shared_out(folder: Path) -> None:
    queue = Queue((), lambda job: None)
    cores = torch.get_num_threads()
    assert Crew(engine(folder), queue, 1)._threads == cores
    assert Crew(engine(folder), queue, 2)._threads == max(1, cores // 2)
    assert Crew(engine(folder), queue, cores + 1)._threads == 1
