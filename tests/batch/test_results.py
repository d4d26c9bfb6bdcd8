"""The results: on the disk row by row, read again after a kill, in the order of the list in the end."""

import csv
import os
from pathlib import Path

import pytest

from palpate.batch.jobs import FileStats, Job, ScanSource, read_jobs
from palpate.batch.results import COLUMNS, ResultRow, Results, results_path
from palpate.errors import BatchError, OutputError
from palpate.inference import InferenceIdentity, InferenceSettings


def job(folder: Path, name: str) -> Job:
    return Job(2, ScanSource(folder / "scan.nii", None), "click=1,2,3", folder, folder / f"{name}.nii")


def done(one: Job, key: str, message: str = "") -> ResultRow:
    return ResultRow(
        key=key, scan=one.listed(one.source.scan), output=one.listed(one.output), status="done", message=message,
        volume_ml=0.25, voxels=2, extent_mm="1.00 x 2.00 x 3.00", seconds=1.5,
    )  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_where_they_go() -> None:
    assert results_path("lists/jobs.csv") == Path("lists/jobs.results.csv")
    assert results_path("jobs.CSV") == Path("jobs.results.csv")
    assert results_path("jobs.v1") == Path("jobs.v1.results.csv")


def test_a_row_is_in_the_file_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fsync

    def counted(number: int) -> None:
        sync(number)
        synced.append(number)

    path, one = tmp_path / "r.csv", job(tmp_path, 'ä, "b"')
    with Results(path) as results:
        monkeypatch.setattr(os, "fsync", counted)
        results.append(done(one, "k1"))
        assert len(synced) == 1
        (row,) = rows(path)
    assert tuple(row) == COLUMNS
    assert row["output"] == one.listed(one.output)
    assert (row["volume_ml"], row["voxels"], row["extent_mm"]) == ("0.25", "2", "1.00 x 2.00 x 3.00")
    assert Results(path).latest == {one.listed(one.output): done(one, "k1")}


def test_done_is_the_same_key_and_the_outputs_there(tmp_path: Path) -> None:
    path, one = tmp_path / "r.csv", job(tmp_path, "a")
    with Results(path) as results:
        assert not results.done(one, "k1"), "nothing is known"
        results.append(done(one, "k1"))
    again = Results(path)
    assert not again.done(one, "k1"), "the output is not there"
    one.output.touch()
    assert again.done(one, "k1")
    assert not again.done(one, "k2")
    both = Job(2, one.source, one.prompts, tmp_path, one.output, tmp_path / "p.nii")
    assert not again.done(both, "k1"), "the probability is not there"
    with Results(path) as results:
        results.append(done(one, "k1").model_copy(update={"status": "failed", "error": "ScanError"}))
    assert not Results(path).done(one, "k1"), "the last row of an output counts"


def test_what_another_job_left_is_taken_back_before_its_output_is_made_anew(tmp_path: Path) -> None:
    """Killed between the mask and its row, the old row must not pass for the new mask."""
    path, one, other = tmp_path / "r.csv", job(tmp_path, "a"), job(tmp_path, "b")
    one.output.touch()
    with Results(path) as results:
        results.begin(other, "k")
        results.append(done(one, "old"))
        results.begin(one, "new")
    (last,) = Results(path).latest.values()
    assert (last.status, last.error, last.key) == ("failed", "Interrupted", "new")
    assert "run the same command again" in last.message


@pytest.mark.parametrize(
    "torn",
    [
        "k3,/scan,/c,do",
        'k3,/scan,"/c',
        "k3",
        "k3,/scan,/c,done,,,0.1,1,1,1,",
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_a_torn_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path, one, two = tmp_path / "r.csv", job(tmp_path, "a"), job(tmp_path, "b")
    with Results(path) as results:
        results.append(done(one, "k1"))
    with path.open("a") as file:
        file.write(torn)
    with Results(path) as results:
        results.append(done(two, "k2"))
    assert [row["key"] for row in rows(path)] == ["k1", "k2"]


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    """A line of too few cells, a status that is none, an open quote, and nothing at all."""
    path, one = tmp_path / "r.csv", job(tmp_path, "a")
    with Results(path) as results:
        results.append(done(one, "k1"))
    good = path.read_text()
    damaged = good + "k,s,o\n" + good.splitlines()[1].replace("done", "perhaps") + '\n"k,s\n\n'
    path.write_text(damaged.replace("\n", "\r\n"), newline="")
    assert list(Results(path).latest.values()) == [done(one, "k1")]


def test_in_the_end_they_are_in_the_order_of_the_list(tmp_path: Path) -> None:
    path, jobs = tmp_path / "r.csv", [job(tmp_path, name) for name in "abc"]
    with Results(path) as results:
        for one in (jobs[2], job(tmp_path, "of another list"), jobs[0], jobs[1], jobs[2]):
            results.append(done(one, "k", message="last" if one is jobs[2] else ""))
        results.append(done(job(tmp_path, "left out since"), "k").model_copy(update={"status": "failed"}))
        assert len(rows(path)) == 6
        results.conclude(jobs)
    kept = [*jobs, job(tmp_path, "of another list")]
    assert [row["output"] for row in rows(path)] == [one.listed(one.output) for one in kept], "but for one that failed"
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_lists_of_several_folders_share_their_results(tmp_path: Path) -> None:
    """Whose outputs are called alike, each as seen from its own list."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = job(tmp_path / "a", "same"), job(tmp_path / "b", "same")
    for one in (first, second):
        one.output.write_bytes(b"")
    path = tmp_path / "a" / "r.csv"
    for _ in range(2):
        for one in (first, second):
            with Results(path) as results:
                results.append(done(one, "k").model_copy(update={"output": results.place(one)}))
                results.conclude([one])
    assert {row["output"] for row in rows(path)} == {"same.nii", "../b/same.nii"}
    assert all(Results(path).done(one, "k") for one in (first, second))
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert all(Results(moved / "a" / "r.csv").done(job(moved / name, "same"), "k") for name in "ab")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """The second would write over the first one's rows; what was done before it began is known to it."""
    path, one, two = tmp_path / "r.csv", job(tmp_path, "a"), job(tmp_path, "b")
    later = Results(path)
    with Results(path) as results:
        with pytest.raises(BatchError, match=r"r\.csv: another run writes it, process \d+ on .*; let it end, or name"):
            later.__enter__()
        results.append(done(one, "k"))
    with later:
        later.append(done(two, "k"))
    assert [row["output"] for row in rows(path)] == ["a.nii", "b.nii"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("scan,prompts,output\n")
    with pytest.raises(OutputError, match=r"jobs\.csv: holds something else than a batch's results; name another file"):
        Results(path)
    assert path.read_text() == "scan,prompts,output\n"
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        Results(tmp_path / "none" / "r.csv")
    path.write_text("")
    assert Results(path).latest == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    path, one = tmp_path / "r.csv", job(tmp_path, "a")
    with Results(path) as results:
        assert results._file is not None
        results._file.close()
        with Path("/dev/full").open("w") as full:
            results._file = full
            with pytest.raises(
                OutputError, match=r"No space left on device; what was finished is kept\. Free some space"
            ):
                results.append(done(one, "k"))
            assert results.latest == {}
            with pytest.raises(OSError, match="No space"):
                full.close()


OLD_MODEL = "ab" * 32  # as `Bundle.answers_sha256` gives it
OLD_KEYS = (
    "d50a89cface85082af31319babff9de409a9428f65bb0e41d4cb5cd10d4f19ab",
    "77fa8f373555c0a22f06bb5b07111fb1748f893c1d4df907c25f6e51e00be2cc",
    "fe289a8d54a48c2483767aa3ed7037bc28df478be7952d7eb7d0084d033cbb31",
)
OLD_LIST = """scan,prompts,output,series,probability
scan.nii,"click=1,2,3; not=4,5,6",a.nii
scan.nii,prior=before.nii,b.nii,,p.nii
scan.nii,p.json,c.nii,1.2.3
"""
OLD_RESULTS = """key,scan,output,status,error,message,volume_ml,voxels,extent_mm,quality,seconds,warnings
{},scan.nii,a.nii,done,,,1.5,12,1.00 x 2.00 x 3.00,0.812,2.5,"odd, header"
{},scan.nii,b.nii,done,,,1.5,12,1.00 x 2.00 x 3.00,,2.5,
{},scan.nii,c.nii,done,,,0.0,0,,,2.5,
"""


def test_what_the_version_before_had_done_is_done(tmp_path: Path) -> None:
    """Its list, files, keys and results, as revision cde757d wrote them."""
    for name, content, time in (
        ("scan.nii", b"x" * 1000, 1_700_000_000_123_456_789), ("before.nii", b"y" * 10, 1_600_000_000_000_000_000),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(0, time))
    (tmp_path / "p.json").write_text('{"version": 1, "prompts": [{"kind": "click", "index": [1, 2, 3]}]}')
    (tmp_path / "jobs.csv").write_text(OLD_LIST)
    (tmp_path / "r.csv").write_text(OLD_RESULTS.format(*OLD_KEYS))
    jobs, stats = read_jobs(tmp_path / "jobs.csv"), FileStats()
    identity = InferenceIdentity.of("palpate-tiny", OLD_MODEL, InferenceSettings(rules=1))
    keys = tuple(one.key(f"{identity.sha256} {identity.arithmetic}", stats) for one in jobs)
    assert keys == OLD_KEYS
    for name in ("a.nii", "b.nii", "p.nii", "c.nii"):
        (tmp_path / name).touch()
    with Results(tmp_path / "r.csv") as results:
        assert all(results.done(one, key) for one, key in zip(jobs, keys, strict=True))
        assert (results.latest["a.nii"].quality, results.latest["a.nii"].warnings) == (0.812, "odd, header")
        results.conclude(jobs)
    assert (tmp_path / "r.csv").read_text() == OLD_RESULTS.format(*OLD_KEYS)
