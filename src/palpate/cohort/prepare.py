"""Preparing a cohort: every scan packed once, in parallel, and again only when its content changes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from ..errors import CohortError, OutputError, ScanError
from ..files import replacing, tidy, writing
from ..formats import read_files
from ..jobs import JsonLines, Ledger, results, run_function
from .packing import GO_ON, pack
from .prepared import FORMAT, CohortIndex, LeftOut, PreparedCohort, PreparedEntry, read_index
from .scans import Cohort, LabelledScan

PrepareProgressHook = Callable[[int, int, str], None]
JOURNAL = "journal.jsonl"  # of what is finished, while a preparation runs
Sources = tuple[tuple[str, int, int, int], ...]


def prepare(
    cohort: Cohort,
    folder: str | Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: PrepareProgressHook | None = None,
) -> PreparedCohort:
    """Pack a cohort's scans into `folder`; a run that was cut short goes on where it stopped.

    Args:
        cohort: what `find_cohort` found.
        folder: made if it is missing.
        workers: processes; by default one a core, at most eight. 1: in this process.
        overwrite: replace another cohort's scans that the folder holds.
        progress: called with scans done, scans in all, and the name of the last.

    Raises:
        CohortError: no scan at all could be prepared, or another process prepares this folder.
        WorkerError: worker processes died; the scans that they packed are named, all others are prepared.
        OutputError: the folder cannot be written, and finished scans stay; or it holds another cohort's scans.
    """
    folder = Path(folder)
    _check_ours(folder)
    if not overwrite and _holds_prepared(folder):
        _check_same(cohort, folder)
    with writing(folder, GO_ON, action="write in"):
        (folder / "scans").mkdir(parents=True, exist_ok=True)
    with writing(folder, GO_ON, action="write in"), _journal(folder) as journal:
        tidy(folder / "scans")
        known = {entry.sources: entry.key for entry in _finished(folder, journal)}
        entries, left_out = [], []
        for number, result in enumerate(_results(cohort.scans, folder / "scans", known, workers), 1):
            if isinstance(result, PreparedEntry):
                entries.append(result)
                if known.get(result.sources) != result.key:
                    journal.append(result)
            else:
                left_out.append(result)
            if progress is not None:
                progress(number, len(cohort.scans), result.name)
        left_out += [LeftOut(name=text.partition(":")[0], reason=text) for text in cohort.incomplete]
        prepared = _conclude(cohort, folder, entries, left_out)
        journal.delete()
    return prepared


def _journal(folder: Path) -> Ledger[PreparedEntry]:
    """What a run has finished, until `cohort.json` says so."""
    return Ledger(
        folder / JOURNAL,
        JsonLines(PreparedEntry),
        key=lambda entry: entry.sources,
        content="prepared scans",
        advice="name a new folder for the prepared scans",
        refusal=lambda holder: CohortError(f"{folder}: another run prepares it, {holder}; let it end"),
    )


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds something else: prepared folders are tidied, and that must not touch a user's scans.

    Raises:
        OutputError: a folder with content that no preparation made.
    """
    if not _holds_prepared(folder) and folder.is_dir() and any(folder.iterdir()) and not _only_begun(folder):
        raise OutputError(f"{folder}: holds other files; name a new folder for the prepared scans")


def _holds_prepared(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("cohort.json", JOURNAL))


def _check_same(cohort: Cohort, folder: Path) -> None:
    """Refuse to replace another cohort's scans; a cohort that grew, shrank or changed is the same one.

    The same: its folder holds a scan that was prepared here, or it lists one. A folder that moved is another's.

    Raises:
        OutputError: the message names the cohort that is there.
    """
    entries = list(_finished(folder, _journal(folder)))
    place, images = cohort.origin.resolve(), {scan.image.resolve() for scan in cohort.scans}
    prepared = [Path(entry.sources[0][0]) for entry in entries]
    if not prepared or any(image in images or image.is_relative_to(place) for image in prepared):
        return
    raise OutputError(
        f"{folder}: holds {len(prepared)} prepared scans of another cohort ({prepared[0]}, ...), none of them of "
        f"{cohort.origin}; name another folder, or give --overwrite to replace them"
    )


def _only_begun(folder: Path) -> bool:
    """Whether a preparation made its empty folder here, and was killed before its first scan."""
    names = {path.name for path in folder.iterdir()} - {f".{JOURNAL}.lock"}
    return names == {"scans"} and not any((folder / "scans").iterdir())


def _conclude(cohort: Cohort, folder: Path, entries: list[PreparedEntry], left_out: list[LeftOut]) -> PreparedCohort:
    if not entries:
        raise CohortError(
            f"{cohort.origin}: none of its {len(left_out)} scans could be prepared; the first: {left_out[0].reason}"
            if left_out
            else f"{cohort.origin}: holds no labelled scan"
        )
    index = CohortIndex(
        format=FORMAT,
        origin=str(cohort.origin),
        layout=cohort.layout,
        labels=cohort.labels,
        licence=cohort.licence,
        scans=tuple(sorted(entries, key=lambda entry: entry.name)),
        left_out=tuple(sorted(left_out, key=lambda one: one.name)),
    )
    with replacing(folder / "cohort.json") as (staged,):
        staged.write_text(index.model_dump_json(indent=1))
    current = {entry.key for entry in index.scans}
    for old in (folder / "scans").iterdir():  # a changed scan has a new key; nobody reads the old one any more
        if old.name not in current and re.fullmatch(r"[0-9a-f]{40}", old.name):  # never what is not ours
            shutil.rmtree(old, ignore_errors=True)
    return PreparedCohort(folder, index)


def _finished(folder: Path, journal: Ledger[PreparedEntry]) -> Iterator[PreparedEntry]:
    """Scans that earlier runs finished, and whose folders are still there."""
    entries = list(journal.latest.values())
    with suppress(CohortError):  # of another version, or damaged: all is packed anew
        index = read_index(folder)
        entries[:0] = index.scans if index else ()
    yield from (entry for entry in entries if (folder / "scans" / entry.key / "scan.json").is_file())


def _results(
    scans: Iterable[LabelledScan], target: Path, known: dict[Sources, str], workers: int | None
) -> Iterator[PreparedEntry | LeftOut]:
    """Every scan's entry, or why it was left out: first those that nothing has to be done for."""
    fresh = []
    for scan in scans:
        sources = file_stats(scan)
        if sources in known:
            yield _entry(scan, sources, known[sources])
        else:
            fresh.append(scan)
    with closing(run_function(partial(_one, target=target), fresh, workers)) as outcomes:
        yield from results(outcomes, lambda scan: scan.name)


def _one(scan: LabelledScan, target: Path) -> PreparedEntry | LeftOut:
    try:
        sources = file_stats(scan)  # before it is read: a file that changes meanwhile is read again next time
        return _entry(scan, sources, pack(scan, target))
    except ScanError as error:
        return LeftOut(name=scan.name, reason=str(error))


def _entry(scan: LabelledScan, sources: Sources, key: str) -> PreparedEntry:
    return PreparedEntry(name=scan.name, patient=scan.patient, subset=scan.subset, key=key, sources=sources)


def file_stats(scan: LabelledScan) -> Sources:
    """Path, bytes and times of image and label; of slices, or a header and its voxels, their sums and latest times.

    The time of the last change of a file's record is part of it, so that a file that was replaced by
    one with the same length and an old date is noticed too.
    """
    rows: list[tuple[str, int, int, int]] = []
    for path in (scan.image, scan.label):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else read_files(path)
        stats = [file.stat() for file in files if file.exists()]
        modified = max((s.st_mtime_ns for s in stats), default=0)
        changed = max((s.st_ctime_ns for s in stats), default=0)
        rows.append((str(path.resolve()), sum(s.st_size for s in stats), modified, changed))
    return tuple(rows)
