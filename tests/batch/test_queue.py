"""Who does what next."""

from pathlib import Path

from palpate.batch.jobs import Job, Source
from palpate.batch.queue import Queue

A, B, C = (Source(Path(name), None) for name in "abc")


def jobs(*sources: Source) -> list[Job]:
    return [Job(row, source, "", Path(), Path(str(row))) for row, source in enumerate(sources)]


def test_one_worker_takes_scan_by_scan() -> None:
    begun: list[int] = []
    queue = Queue(jobs(A, B, A, C, B), lambda job: begun.append(job.row))
    assert len(queue) == 5
    job = queue.take()
    while job is not None:
        job = queue.take(job.source)
    assert begun == [0, 2, 1, 4, 3]
    assert len(queue) == 0


def test_several_keep_to_their_scans_and_then_help() -> None:
    queue = Queue(jobs(A, A, A, B, C, C, C, C), lambda job: None)

    def taken(mine: Source | None, *others: Source | None) -> int:
        job = queue.take(mine, others)
        assert job is not None
        return job.row

    assert taken(None, None) == 0
    assert taken(None, A) == 3, "a scan that nobody holds"
    assert taken(A, B) == 1
    assert taken(B, A) == 4, "B is done, C is free"
    assert taken(None, A, C) == 5, "all are held: help where most is left"
    assert taken(A, C, C) == 2
    assert taken(A, C) == 6
    assert taken(None) == 7
    assert queue.take(C) is None


def test_series_of_one_folder_are_scans_of_their_own() -> None:
    queue = Queue(jobs(Source(Path("a"), "1"), Source(Path("a"), "2"), Source(Path("a"), "1")), lambda job: None)
    rows = []
    job = queue.take()
    while job is not None:
        rows.append(job.row)
        job = queue.take(job.source)
    assert rows == [0, 2, 1]
