"""Who does what next."""

from dataclasses import dataclass

from palpate.jobs import JobQueue


@dataclass(frozen=True)
class Job:
    row: int
    scan: str


def jobs(scans: str) -> list[Job]:
    return [Job(row, scan) for row, scan in enumerate(scans)]


def scan_of(job: Job) -> str:
    return job.scan


def test_one_worker_takes_scan_by_scan() -> None:
    begun: list[int] = []
    queue = JobQueue(jobs("ABACB"), scan_of, lambda job: begun.append(job.row))
    assert len(queue) == 5
    job = queue.take()
    while job is not None:
        job = queue.take(job.scan)
    assert begun == [0, 2, 1, 4, 3]
    assert len(queue) == 0


def test_several_keep_to_their_scans_and_then_help() -> None:
    queue = JobQueue(jobs("AAABCCCC"), scan_of)

    def taken(mine: str | None, *others: str | None) -> int:
        job = queue.take(mine, others)
        assert job is not None
        return job.row

    assert taken(None, None) == 0
    assert taken(None, "A") == 3, "a scan that nobody holds"
    assert taken("A", "B") == 1
    assert taken("B", "A") == 4, "B is done, C is free"
    assert taken(None, "A", "C") == 5, "all are held: help where most is left"
    assert taken("A", "C", "C") == 2
    assert taken("A", "C") == 6
    assert taken(None) == 7
    assert queue.take("C") is None


def test_without_groups_jobs_are_taken_in_their_order() -> None:
    queue = JobQueue([3, 1, 2])
    assert queue.group(3) == queue.group(1)
    assert [queue.take(), queue.take(queue.group(3), [None]), queue.take(), queue.take()] == [3, 1, 2, None]
