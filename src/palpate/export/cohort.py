"""Cohort export: scans and their lesions appended to a CSV beside folders of images and labels, for `palpate audit`.

::

    FOLDER/
        cohort.csv           image,label,patient,name; further columns stay
        images/NAME.nii.gz   the scan, each voxel as it was read
        labels/NAME.nii.gz   1 where an accepted lesion is, else 0

NAME is the scan's own name and the beginning of its hash, by which a scan has one entry, however often it is exported
and whatever its file is called by then.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError, SessionError
from ..files import all_or_none, locked, replacing, writing
from ..formats import READABLE, write
from ..lesions import label_map
from ..masks import Mask
from ..volume import Volume
from .provenance import ScanIdentity

LISTING, IMAGES, LABELS, LOCK = "cohort.csv", "images", "labels", ".cohort.lock"
COLUMNS = ("image", "label", "patient", "name")
FORMULA = ("=", "+", "-", "@")  # what a cell begins with that spreadsheets calculate
CohortRow = dict[str, str]


def append_to_cohort(
    folder: Path, volume: Volume, scan: ScanIdentity, masks: Sequence[Mask], patient: str | None
) -> str:
    """Append a scan and the union of its lesions to a cohort; returns the scan's name there.

    Raises:
        SessionError: no mask, or only empty ones; a patient that no list can hold; or another process exports to that
            cohort.
        OutputError: the folder is another layout's, or cannot be written.
    """
    if patient is not None:
        check_patient(patient)
    if not masks:
        raise SessionError("nothing to export: no lesion is accepted; accept those that are right first")
    union = label_map([(1, mask) for mask in masks], volume.grid, volume.source)
    if not union.array.any():
        raise SessionError("nothing to export: the accepted masks are empty")
    with _cohort(folder), locked(folder / LOCK, _in_use(folder)):
        columns, rows = _rows(folder / LISTING)
        row = next((old for old in rows if old["name"].endswith(_ending(scan))), {})
        name = row.get("name") or _name(scan)
        row |= {"image": f"{IMAGES}/{name}.nii.gz", "label": f"{LABELS}/{name}.nii.gz", "name": name}
        if patient is not None:
            row["patient"] = patient
        rows = [old for old in rows if old["name"] != name] + [row]
        image, label, listing = folder / row["image"], folder / row["label"], folder / LISTING
        with all_or_none(image, label, listing):
            if not listing.exists():  # first: whatever happens then, the folder is known to be a cohort
                _list(listing, columns, [])
            if not image.exists():  # the name holds the hash of its voxels
                write(volume, image)
            with replacing(label, listing) as (staged, staged_listing):
                write(union, staged)
                staged_listing.write_text(_text(columns, rows), encoding="utf-8")
    return name


def check_patient(patient: str) -> None:
    """Refuse what is no name in a list that others open as a table.

    Raises:
        SessionError: nothing but spaces, a line break or another control character, or what a spreadsheet would
            calculate instead of showing it.
    """
    if not patient.strip():
        raise SessionError(f"patient {patient!r}: names nobody; give a name, or leave the patient out")
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in patient):
        raise SessionError(f"patient {patient!r}: has a line break or another control character; give one line of text")
    if patient.strip().startswith(FORMULA):
        raise SessionError(
            f"patient {patient!r}: a spreadsheet takes what begins with one of {' '.join(FORMULA)} for a formula; "
            "begin with a letter or a digit"
        )


def _name(scan: ScanIdentity) -> str:
    own = Path(scan.path).name if scan.path else "scan"
    ending = next((e for e in sorted(READABLE, key=len, reverse=True) if own.lower().endswith(e)), "")
    plain = re.sub(r"[^\w.-]+", "-", own[: len(own) - len(ending)]).strip("-.") or "scan"
    return f"{plain}{_ending(scan)}"


def _ending(scan: ScanIdentity) -> str:
    """What a scan's name in a cohort ends in, whatever its file is called."""
    return f"-{scan.sha256[:12]}"


def _in_use(folder: Path) -> Callable[[str], SessionError]:
    return lambda holder: SessionError(f"{folder}: is in use by {holder}; export again when that has ended")


@contextmanager
def _cohort(folder: Path) -> Iterator[None]:
    """A folder that is such a cohort or can become one; what was made of it goes away after an error."""
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if LISTING not in there and set(there) - {LOCK}:
        raise OutputError(
            f"{folder}: holds {there[0]!r} but no {LISTING}; name a new folder, or a cohort that was exported before"
        )
    made: list[Path] = []
    try:
        with writing(folder):
            for place in (folder, folder / IMAGES, folder / LABELS):
                if not place.is_dir():
                    place.mkdir()
                    made.append(place)
            yield
    except BaseException:
        for place in reversed(made):
            (place / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # what another export put there stays
                place.rmdir()
        raise


def _rows(path: Path) -> tuple[list[str], list[CohortRow]]:
    """The listing's columns and rows; ours, where there is no listing yet."""
    if not path.exists():
        return list(COLUMNS), []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{path}: cannot be gone on with ({error}); repair it, or choose another folder") from error
    if not set(COLUMNS) <= set(columns) or any(None in row for row in rows):
        raise OutputError(f"{path}: is no cohort of ours, with the columns {','.join(COLUMNS)}; choose another folder")
    return columns, rows


def _list(path: Path, columns: Sequence[str], rows: Sequence[CohortRow]) -> None:
    with replacing(path) as (staged,):
        staged.write_text(_text(columns, rows), encoding="utf-8")


def _text(columns: Sequence[str], rows: Sequence[CohortRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
