"""The list: a CSV of `scan,prompts,output[,series][,probability]`, checked as a whole before any work."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BatchError, OutputError, PromptError
from ..files import error_text
from ..formats import READABLE, check_output, check_replaceable, read_files
from ..prompt_file import BoxEntry, read_entries, read_prompts, with_loose_boxes
from ..prompt_text import TextEntry, from_line, named_files
from ..prompts import Prompt
from ..volume import Grid

NEEDED = ("scan", "prompts", "output")
OPTIONAL = ("series", "probability")
MAX_PROBLEMS = 5  # of a list that its error names; the rest are counted
NO_SLICES = (*READABLE, ".zraw", ".csv", ".json")  # endings of files in a folder of slices that are no slice


@dataclass(frozen=True)
class ScanSource:
    """A scan to be read, and which series of a folder; consecutive jobs of one scan read it once."""

    scan: Path
    series: str | None


@dataclass(frozen=True)
class Job:
    """One row of the list. Its paths are absolute; `listed` gives them as the list has them.

    Attributes:
        row: its row in the file, the header's being 1.
        source: the scan, and which series of a folder that holds several.
        prompts: the cell: prompts as text, or the path of a file of prompts.
        folder: the list's folder, to which paths are relative.
        output: where the mask goes.
        probability: where the probability goes too, if anywhere.
        loose_boxes: boxes that do not say whether they bound the mask are hints.
    """

    row: int
    source: ScanSource
    prompts: str
    folder: Path
    output: Path
    probability: Path | None = None
    loose_boxes: bool = False

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that the job makes."""
        return (self.output,) if self.probability is None else (self.output, self.probability)

    @property
    def prompt_file(self) -> Path | None:
        """The file of prompts, or None where the cell is prompts itself."""
        return self.folder / self.prompts if self.prompts.lower().endswith(".json") else None

    def listed(self, path: Path) -> str:
        """A path of the job as the list has it: relative to its folder, if it is; a moved folder changes nothing."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)

    def entries(self) -> tuple[TextEntry, ...]:
        """The prompts, before the scan is read.

        Raises:
            PromptError: neither a file of prompts nor prompts as text.
        """
        entries = from_line(self.prompts) if self.prompt_file is None else read_entries(self.prompt_file)
        return with_loose_boxes(entries) if self.loose_boxes else entries

    def read_prompts(self, grid: Grid) -> list[Prompt]:
        """The prompts, on the scan's grid.

        Raises:
            PromptError: see `prompt_file.read_prompts` and `prompt_text.from_line`.
            ScanError: a mask that cannot be read.
        """
        if self.prompt_file is not None:
            return read_prompts(self.prompt_file, grid, loose_boxes=self.loose_boxes)
        return [entry.prompt(grid, self._beside) for entry in self.entries()]

    @property
    def named(self) -> tuple[Path, ...]:
        """The files that the prompts name: masks, and strokes' voxels."""
        try:
            return named_files(self.entries(), self._beside)
        except PromptError:  # of a file that is none: the job fails with that error
            return ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file or folder that the job reads."""
        return (self.source.scan, *([] if self.prompt_file is None else [self.prompt_file]), *self.named)

    def key(self, model: str, stats: FileStats) -> str:
        """A hash of all that the result depends on, and of where it goes.

        Args:
            model: the model's SHA-256 and what of the inference settings a mask depends on.
            stats: of files, shared by the jobs of a list.
        """
        prompts = self.prompts
        if self.prompt_file is not None:
            prompts = ""
            with suppress(OSError):  # of one that is missing, or may not be read: the job fails with that error
                prompts = self.prompt_file.read_bytes().hex()
        content = {
            "scan": (self.listed(self.source.scan), *stats[self.source.scan]),
            "series": self.source.series,
            "prompts": prompts,
            "named": [(self.listed(path), *stats[path]) for path in self.named],
            "outputs": [self.listed(path) for path in self.outputs],
            "model": model,
        }
        content |= self._rules
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def _rules(self) -> dict[str, str]:
        """The rules by which its mask is made that earlier versions did not have.

        Where none applies, the key is that of before there were any, and such a mask is not made anew. Nor is one of
        background prompts: their rule (`inference.reach`) changes few masks, and what is finished stays.
        """
        try:
            entries = self.entries()
        except PromptError:  # of a file that is none: the job fails with that error
            return {}
        bounded = any(isinstance(entry, BoxEntry) and entry.may_bound() for entry in entries)
        return {"box": "bounds the mask"} if bounded else {}

    @property
    def _beside(self) -> Path:
        """The folder to which the paths in prompts are relative."""
        return self.folder if self.prompt_file is None else self.prompt_file.parent


class FileStats(dict[Path, tuple[int, ...]]):
    """How many files lie at a path, their bytes and latest time, asked of the disk once; of a folder, its slices'."""

    def __missing__(self, path: Path) -> tuple[int, ...]:
        """Ask the disk. What may not be read counts as missing here; its job then fails with the reason."""
        stats: list[os.stat_result] = []
        with suppress(OSError):
            if path.is_dir():
                files = [p for p in path.rglob("*") if not p.name.lower().endswith(NO_SLICES) and p.is_file()]
            else:
                files = list(read_files(path))
            stats = [file.stat() for file in files if file.exists()]
        latest = max((stat.st_mtime_ns for stat in stats), default=0)
        self[path] = (len(stats), sum(stat.st_size for stat in stats), latest)
        return self[path]


def read_jobs(path: str | Path, *, loose_boxes: bool = False) -> tuple[Job, ...]:
    """The jobs of a list, in its order.

    Args:
        path: a CSV, UTF-8, with the columns scan, prompts and output, and maybe series and probability. Paths in it are
            relative to its folder. A scan or a file of prompts that is missing fails its own job later, not the list.
        loose_boxes: boxes that do not say whether they bound the mask are hints.

    Raises:
        BatchError: no such file, not UTF-8, no CSV, columns that are missing or unknown; or rows that cannot be
            followed, with their numbers: empty cells, prompts that are none, a result that cannot be written there,
            two results in one file, or a result in place of something that is read.
    """
    path = Path(path)
    jobs: list[Job] = []
    problems: list[tuple[int, str]] = []
    for row, cells in _rows(path):
        try:
            jobs.append(_job(row, cells, path.absolute().parent, loose_boxes))
        except (BatchError, PromptError, OutputError) as error:
            problems.append((row, str(error)))
    problems = sorted([*problems, *_clashes(jobs)])
    if problems:
        raise BatchError(f"{path}: cannot be used, nothing was done: {listed_problems(problems)}")
    if not jobs:
        raise BatchError(f"{path}: lists no job; give rows of {','.join(NEEDED)} below the header")
    return tuple(jobs)


def check_outputs_replaceable(jobs: Sequence[Job]) -> None:
    """Refuse jobs over files that Palpate did not write, or that were changed since, as a mask mended by hand.

    Raises:
        BatchError: there are such files; the message names them with their rows.
    """
    problems: list[tuple[int, str]] = []
    for job in jobs:
        with suppress(OSError):  # in a folder that may not be read: the job fails with that error
            try:
                check_replaceable(*job.outputs)
            except OutputError as error:
                problems.append((job.row, str(error)))
    if problems:
        raise BatchError(f"nothing was done: {listed_problems(problems)}")


def listed_problems(problems: Sequence[tuple[int, str]]) -> str:
    """Problems with their rows; of many the first few, and how many more there are."""
    named = "; ".join(f"row {row}: {problem}" for row, problem in problems[:MAX_PROBLEMS])
    return named + (f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else "")


def _job(row: int, cells: Sequence[str], folder: Path, loose_boxes: bool) -> Job:
    """The job of a row whose cells are in the order of `NEEDED` and `OPTIONAL`; what can be checked now is."""
    empty = [name for name, cell in zip(NEEDED, cells, strict=False) if not cell]
    if empty:
        raise BatchError(f"no {' and no '.join(empty)}")
    scan, prompts, output, series, probability = cells
    job = Job(
        row=row,
        source=ScanSource(folder / scan, series or None),
        prompts=prompts,
        folder=folder,
        output=folder / output,
        probability=folder / probability if probability else None,
        loose_boxes=loose_boxes,
    )
    if job.prompt_file is None:
        job.entries()
    for result in job.outputs:
        check_output(result)
    return job


def _clashes(jobs: Sequence[Job]) -> Iterator[tuple[int, str]]:
    """Results that would overwrite each other, or what is read."""
    inputs = {path.resolve(): job.row for job in jobs for path in job.inputs}
    first: dict[Path, int] = {}
    for job in jobs:
        for result in job.outputs:
            place = result.resolve()
            if place in first:
                yield job.row, f"{result} is a result of row {first[place]} already; name them apart"
            elif place in inputs:
                yield job.row, f"{result} would overwrite what row {inputs[place]} reads; name another file"
            first.setdefault(place, job.row)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with its number, cells in the order of `NEEDED` and `OPTIONAL`."""
    number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            columns = _columns(path, next(reader, []))
            number = 2
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, _ordered(path, reader.line_num, columns, cells)
                number = reader.line_num + 1
    except OSError as error:
        raise BatchError(f"{path}: cannot be read ({error_text(error)}); give a CSV of {','.join(NEEDED)}") from error
    except UnicodeDecodeError as error:
        raise BatchError(f"{path}: not UTF-8 ({error.reason}); save it again as CSV in UTF-8") from error
    except csv.Error as error:
        raise BatchError(f"{path} row {number}: not a CSV ({error}); check its quotes") from error


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = _trimmed(header)
    if not set(NEEDED) <= set(columns):
        raise BatchError(
            f"{path}: the header is {','.join(header)!r}; it needs the columns {','.join(NEEDED)}, separated by commas"
        )
    unknown = sorted(set(columns) - {*NEEDED, *OPTIONAL})
    if unknown or len(set(columns)) < len(columns):
        what = f"unknown columns {', '.join(map(repr, unknown))}" if unknown else "a column twice"
        raise BatchError(f"{path}: {what}; a list has {','.join(NEEDED)}, and maybe {','.join(OPTIONAL)}")
    return columns


def _trimmed(cells: list[str]) -> list[str]:
    """Cells without the spaces around them, and without the empty ones that a spreadsheet adds at a row's end."""
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _ordered(path: Path, row: int, columns: list[str], cells: list[str]) -> list[str]:
    cells = _trimmed(cells)
    if len(cells) > len(columns):
        raise BatchError(
            f"{path} row {row}: {len(cells)} cells, but {len(columns)} columns; put a cell with commas in quotes, "
            'as "click=120,88,45"'
        )
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise BatchError(f"{path} row {row}: a cell with a line break; check its quotes")
    named = dict(zip(columns, cells, strict=False))
    return [named.get(name, "") for name in (*NEEDED, *OPTIONAL)]
