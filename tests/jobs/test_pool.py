"""Worker processes: what they do, how they die, and when they are stopped."""

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import pool_jobs
from palpate import openmp
from palpate.errors import ModelError, WorkerError
from palpate.jobs import (
    Completed,
    Failed,
    JobQueue,
    Outcome,
    WorkerPool,
    default_workers,
    results,
    run_function,
    run_here,
)
from palpate.jobs import pool as pool_module

Start = Callable[[], Callable[[str], str]]


def outcomes(
    *jobs: str,
    count: int = 1,
    timeout: float | None = None,
    start: Callable[[], Callable[[str], str]] = pool_jobs.ready,
) -> dict[str, Outcome[str, str]]:
    with WorkerPool(start, JobQueue(jobs), count, timeout) as pool:
        found = {outcome.job: outcome for outcome in pool.outcomes()}
    assert multiprocessing.active_children() == []
    return found


def failure(outcome: Outcome[str, str]) -> tuple[str, str]:
    assert isinstance(outcome, Failed)
    return outcome.reason, str(outcome.error)


def process_of(outcome: Outcome[str, str]) -> str:
    assert isinstance(outcome, Completed)
    job, process = outcome.result.rsplit(" ", 1)
    assert job == outcome.job
    return process


def test_every_job_is_done_by_some_process() -> None:
    found = outcomes(*"abcdefgh", count=2)
    processes = {process_of(outcome) for outcome in found.values()}
    assert len(found) == 8
    assert 1 <= len(processes) <= 2
    assert str(os.getpid()) not in processes
    assert outcomes() == {}, "no job, no process"


def test_a_death_costs_one_job_and_is_reported_with_it() -> None:
    found = outcomes("a", "die", "b", "exit", "c")
    assert failure(found["die"]) == ("died", "a worker process was killed by signal 9, perhaps for want of memory")
    assert failure(found["exit"]) == ("died", "a worker process ended with exit code 3")
    assert len({process_of(found[job]) for job in "abc"}) == 3, "another worker takes the place of each that died"


def test_an_error_of_a_job_is_its_outcome_and_its_worker_goes_on() -> None:
    found = outcomes("a", "raise", "odd", "unsendable", "b")
    assert failure(found["raise"]) == ("error", "no such word")
    raised = found["raise"]
    assert isinstance(raised, Failed)
    assert isinstance(raised.error, ValueError)
    assert 'raise ValueError("no such word")' in raised.error.__notes__[0]
    assert failure(found["odd"]) == ("error", "UnpicklableError: one and two")
    assert failure(found["unsendable"])[1].startswith("the result cannot be sent from a worker process: ")
    assert process_of(found["a"]) == process_of(found["b"])


def test_a_job_that_takes_too_long_is_stopped_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    slow = f"sleep 600 {tmp_path / 'half.txt'}"
    began = time.monotonic()
    found = outcomes("a", slow, "b", timeout=0.5)
    assert time.monotonic() - began < 60
    assert failure(found[slow]) == ("timeout", "took longer than 0.5 seconds and was stopped")
    assert process_of(found["a"]) != process_of(found["b"])
    assert list(tmp_path.iterdir()) == []
    quick = f"sleep 0.01 {tmp_path / 'whole.txt'}"
    process_of(outcomes(quick, timeout=60)[quick])


def test_a_job_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STOP_SECONDS", 0.5)
    found = outcomes("stubborn", "a", timeout=0.5)
    assert failure(found["stubborn"]) == ("timeout", "took longer than 0.5 seconds and was stopped")
    process_of(found["a"])


def test_the_others_work_on_while_one_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STOP_SECONDS", 2.0)
    with WorkerPool(pool_jobs.ready, JobQueue(["stubborn", *"abcdef"]), 2, timeout=1.0) as pool:
        order = [outcome.job for outcome in pool.outcomes()]
    assert order == [*"abcdef", "stubborn"]


def test_an_error_of_the_start_is_raised_once() -> None:
    with pytest.raises(ModelError, match="no model 'none'; name another"):
        outcomes("a", "b", count=2, start=pool_jobs.refusing)


def test_a_worker_that_dies_before_it_is_ready_is_not_replaced_for_ever(tmp_path: Path) -> None:
    message = "a worker process was killed by signal 9, .*, before it was ready; start fewer workers"
    with pytest.raises(WorkerError, match=message):
        outcomes("a", "b", start=pool_jobs.dying)
    found = outcomes("a", "b", count=2, start=partial(pool_jobs.dying_once, tmp_path / "marker"))
    assert len({process_of(outcome) for outcome in found.values()}) == 1, "the other does its jobs"


def test_a_fault_of_the_start_ends_its_process(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkerError, match="a worker process ended with exit code 1, before it was ready"):
        outcomes("a", start=pool_jobs.failing)
    assert "RuntimeError: a fault" in capfd.readouterr().err


def test_leaving_the_block_ends_who_is_at_work_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with WorkerPool(pool_jobs.ready, JobQueue([f"sleep 600 {tmp_path / 'half.txt'}", "a"]), 2) as pool:
        assert next(iter(pool.outcomes())).job == "a"
        while not list(tmp_path.glob("*/half.txt")):
            time.sleep(0.01)
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


def test_workers_hear_no_interrupts_whoever_starts_them() -> None:
    assert list(results(run_function(pool_jobs.ignores_interrupts, [1, 2, 3], workers=2), str)) == [True] * 3
    heard: list[bool] = []
    thread = threading.Thread(
        target=lambda: heard.extend(results(run_function(pool_jobs.ignores_interrupts, [1, 2], workers=2), str))
    )
    thread.start()
    thread.join()
    assert heard == [True] * 2


def test_threads_of_workers_wait_asleep_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openmp.CHOICES:
        monkeypatch.delenv(name, raising=False)
    assert list(results(run_function(pool_jobs.waiting_of, [1, 2], workers=2), str)) == ["PASSIVE"] * 2
    assert "OMP_WAIT_POLICY" not in os.environ, "this process's is as it was"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert list(results(run_function(pool_jobs.waiting_of, [1, 2], workers=2), str)) == ["ACTIVE"] * 2


def test_a_worker_keeps_to_its_group() -> None:
    """Of two workers, each does its own group's jobs, wherever they stand in the list."""
    jobs = [f"{group} {number}" for number in range(6) for group in "ab"]
    with WorkerPool(pool_jobs.ready, JobQueue(jobs, group=lambda job: job[0]), 2) as pool:
        found = [(outcome.job[0], process_of(outcome)) for outcome in pool.outcomes()]
    for process in {process for _, process in found}:
        groups = [group for group, whose in found if whose == process]
        assert len(list(itertools.groupby(groups))) <= 2, "it changes once, to help where the other's jobs are left"


def test_one_worker_works_here_and_keeps_the_order() -> None:
    assert list(results(run_function(abs, [-3, 1, -2], workers=1), str)) == [3, 1, 2]
    found = list(run_here(pool_jobs.ready, JobQueue(["a", "raise", "b"])))
    assert [outcome.job for outcome in found] == ["a", "raise", "b"]
    assert failure(found[1]) == ("error", "no such word")
    assert process_of(found[0]) == process_of(found[2]) == str(os.getpid())


def test_here_the_start_is_made_for_jobs_only() -> None:
    assert list(run_here(pool_jobs.refusing, JobQueue(()))) == []
    with pytest.raises(ModelError):
        list(run_here(pool_jobs.refusing, JobQueue(["a"])))


def test_several_do_it_all() -> None:
    assert sorted(results(run_function(abs, range(-40, 0), workers=2), str)) == list(range(1, 41))
    assert list(results(run_function(abs, [], workers=2), str)) == []
    assert 1 <= default_workers() <= 8


def test_jobs_are_begun_only_when_a_worker_takes_them() -> None:
    begun: list[str] = []
    with WorkerPool(pool_jobs.ready, JobQueue("abcdefgh", begin=begun.append), 2) as pool:
        finished: Iterator[Outcome[str, str]] = iter(pool.outcomes())
        next(finished)
        assert len(begun) <= 3
        assert len(list(finished)) == 7
    assert begun == list("abcdefgh")


def test_results_raise_what_a_job_raised_and_name_those_that_were_lost() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(results(run_function(pool_jobs.number_of, ["1", "x", "3"], workers=1), str))
    with pytest.raises(ValueError, match="invalid literal"):
        list(results(run_function(pool_jobs.number_of, ["x"], workers=2), str))
    message = r"^scan die: a worker process was killed by signal 9, .*\. Run the same command again, with fewer workers"
    others: list[str] = []
    with pytest.raises(WorkerError, match=message):
        others.extend(results(run_function(pool_jobs.do, ["die", "a", "b"], workers=2), lambda job: f"scan {job}"))
    assert sorted(other[0] for other in others) == ["a", "b"], "all others are done first"
