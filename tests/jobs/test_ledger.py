"""A file of records that a kill leaves readable: CSV and JSON lines, one writer at a time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from palpate.errors import BatchError, OutputError
from palpate.jobs import CsvLines, JsonLines, Ledger
from palpate.jobs.ledger import Lines


class Record(BaseModel):
    name: str
    number: int
    remark: str | None = None


KINDS: list[Lines[Record]] = [CsvLines(Record), JsonLines(Record)]
A, B = Record(name="a", number=1), Record(name='ä, "b"', number=2, remark="x")


@pytest.fixture(params=KINDS, ids=["csv", "json"])
def lines(request: pytest.FixtureRequest) -> Lines[Record]:
    kind: Lines[Record] = request.param
    return kind


def ledger(folder: Path, lines: Lines[Record]) -> Ledger[Record]:
    return Ledger(
        folder / "l", lines, lambda record: record.name, content="numbers", advice="name another", refusal=BatchError
    )


def test_what_is_appended_is_read_again(tmp_path: Path, lines: Lines[Record]) -> None:
    with ledger(tmp_path, lines) as first:
        assert first.latest == {}
        first.append(A)
        first.append(B)
        first.append(later := A.model_copy(update={"number": 3}))
    assert ledger(tmp_path, lines).latest == {"a": later, B.name: B}
    with ledger(tmp_path, lines) as second:
        assert list(second.latest.values()) == [later, B], "of one key the last counts, in the first one's place"
        second.append(C := Record(name="c", number=4))
    assert ledger(tmp_path, lines).latest == {"a": later, B.name: B, "c": C}
    assert [path.name for path in tmp_path.iterdir()] == ["l"]


def test_the_text_of_both_kinds(tmp_path: Path) -> None:
    for kind, text in (
        (KINDS[0], 'name,number,remark\na,1,\n"ä, ""b""",2,x\n'),
        (KINDS[1], '{"name":"a","number":1,"remark":null}\n{"name":"ä, \\"b\\"","number":2,"remark":"x"}\n'),
    ):
        with ledger(tmp_path, kind) as numbers:
            numbers.append(A)
            numbers.append(B)
        assert (tmp_path / "l").read_text() == text
        (tmp_path / "l").unlink()


def test_a_kill_costs_the_line_that_it_tears(tmp_path: Path, lines: Lines[Record]) -> None:
    with ledger(tmp_path, lines) as numbers:
        numbers.append(A)
        numbers.append(B)
    whole = (tmp_path / "l").read_bytes()
    for end in range(len(lines.header.encode()), len(whole)):
        (tmp_path / "l").write_bytes(whole[:end])
        found = ledger(tmp_path, lines).latest
        assert list(found.values()) == [A][: whole[:end].count(b"\n") - lines.header.count("\n")]
    with ledger(tmp_path, lines) as numbers:
        numbers.append(B)
    assert (tmp_path / "l").read_bytes() == whole, "the torn line is gone, and the next one is whole"


def test_blank_and_damaged_lines_are_left_out(tmp_path: Path, lines: Lines[Record]) -> None:
    text = lines.header + "\n" + lines.write(A) + "nonsense,{\n" + lines.write(B) + "\n"
    (tmp_path / "l").write_text(text)
    assert list(ledger(tmp_path, lines).latest.values()) == [A, B]


def test_another_file_is_left_alone(tmp_path: Path, lines: Lines[Record]) -> None:
    (tmp_path / "l").write_text("some,thing\n")
    with pytest.raises(OutputError, match=r"l: holds something else than numbers; name another$"):
        ledger(tmp_path, lines)
    assert (tmp_path / "l").read_text() == "some,thing\n"
    (tmp_path / "l").write_text("")
    assert ledger(tmp_path, lines).latest == {}


def test_rewriting_and_deleting(tmp_path: Path, lines: Lines[Record]) -> None:
    with ledger(tmp_path, lines) as numbers:
        for record in (A, B, A):
            numbers.append(record)
        numbers.rewrite([B, A])
        with pytest.raises(ValueError, match="is not open"):
            numbers.append(A)
    assert (tmp_path / "l").read_text() == lines.header + lines.write(B) + lines.write(A)
    with ledger(tmp_path, lines) as numbers:
        numbers.delete()
        assert [path.name for path in tmp_path.iterdir()] == [".l.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_record_with_a_line_break_is_refused(tmp_path: Path) -> None:
    """It would be read as two torn lines; JSON has no line breaks in its text."""
    broken = Record(name="a\nb", number=1)
    with ledger(tmp_path, KINDS[0]) as numbers, pytest.raises(ValueError, match="a record with a line break"):
        numbers.append(broken)
    (tmp_path / "l").unlink()
    with ledger(tmp_path, KINDS[1]) as numbers:
        numbers.append(broken)
    assert ledger(tmp_path, KINDS[1]).latest == {"a\nb": broken}


def test_one_writer_at_a_time(tmp_path: Path, lines: Lines[Record]) -> None:
    """The second would write over the first one's lines; what was done before it began is known to it."""
    later = ledger(tmp_path, lines)
    with ledger(tmp_path, lines) as first:
        with pytest.raises(BatchError, match=rf"^process {os.getpid()} on "):
            later.__enter__()
        first.append(A)
    with later:
        later.append(B)
    assert list(ledger(tmp_path, lines).latest.values()) == [A, B]


def test_a_killed_writer_leaves_its_lines_and_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pydantic import BaseModel\n"
        "from palpate.jobs import JsonLines, Ledger\n"
        "class Record(BaseModel): name: str; number: int; remark: str | None = None\n"
        "path = Path(sys.argv[1]) / 'l'\n"
        "with Ledger(path, JsonLines(Record), lambda r: r.name, content='n', refusal=RuntimeError) as ledger:\n"
        "    ledger.append(Record(name='a', number=1)); print('done', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "done\n"
        with pytest.raises(BatchError, match=f"^process {other.pid} on "):
            ledger(tmp_path, KINDS[1]).__enter__()
        other.send_signal(signal.SIGKILL)
        other.wait()
    with ledger(tmp_path, KINDS[1]) as numbers:
        assert numbers.latest == {"a": A}
        numbers.append(B)
    assert [json.loads(line)["number"] for line in (tmp_path / "l").read_text().splitlines()] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["l"]
