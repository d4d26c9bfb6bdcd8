"""A session's lesions as files for others: masks or a label map, and what is known of each lesion."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import OutputError, SessionError
from ..formats import WRITABLE, check_output, check_spared, write, written_files
from ..prompt_file import summary
from ..volume import Patch
from .labels import Overlap, check_overlap
from .measurements import Diameter, measure

if TYPE_CHECKING:
    from .lesions import Lesion
    from .session import Session

VERSION = 1
LISTING, LABELS = "lesions.json", "labels"


def export(
    session: Session, path: Path, *, separate: bool, overlap: Overlap, accepted_only: bool, ending: str
) -> tuple[Path, ...]:
    """See `Session.export`."""
    check_overlap(overlap)
    shown = [lesion for lesion in session.lesions if lesion.status == "accepted" or not accepted_only]
    if not shown:
        which = "accepted lesion" if accepted_only else "lesion"
        raise SessionError(f"there is no {which} to export; {'accept' if accepted_only else 'add'} one first")
    to_file = path.name.endswith(WRITABLE) and not path.is_dir()
    if to_file and separate:
        raise SessionError(f"{path}: is one file; name a folder for a mask a lesion")
    if ending not in WRITABLE:
        raise OutputError(f"cannot write {ending!r}: unknown ending; use one of {', '.join(WRITABLE)}")
    places = _places(shown, path, to_file, separate, ending)
    made = _folder(path) if not to_file else False
    try:
        listing = _listing_of(path) if to_file else path / LISTING
        stale = [] if to_file else _named_before(listing)
        for place in places:
            check_output(place, session.volume)
        check_spared(listing, session.volume)
        patches: list[Patch] = (
            [session.mask(lesion.number) for lesion in shown]
            if separate
            else [session.label_map(overlap, accepted_only=accepted_only)]
        )
        record = _record(session, shown, places, None if separate else (overlap, patches[0]))
        _write(patches, places, listing, record)
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise
    for old in set(stale) - {file for place in places for file in written_files(place)}:
        old.unlink(missing_ok=True)
    return (*places, listing)


def lesion_record(session: Session, lesion: Lesion) -> dict[str, Any]:
    """What is known of a lesion: plain data. Lengths are millimetres, places RAS millimetres."""
    mask = session.mask(lesion.number)
    sizes = measure(mask)
    return {
        "number": lesion.number,
        "name": lesion.name,
        "status": lesion.status,
        "score": lesion.score,
        "voxels": mask.voxels,
        "volume_ml": round(sizes.volume_ml, 4),
        "longest": _diameter(sizes.longest),
        "perpendicular": _diameter(sizes.perpendicular),
        "slice": None if sizes.slice_index is None else {"axis": sizes.axis, "index": sizes.slice_index},
        "start": lesion.start is not None,
        "prompts": [summary(prompt) for prompt in lesion.prompts],
    }


def _record(
    session: Session, shown: Sequence[Lesion], places: Sequence[Path], labels: tuple[Overlap, Patch] | None
) -> dict[str, Any]:
    from .. import __version__

    lesions = []
    for number, lesion in enumerate(shown):
        known = lesion_record(session, lesion)
        if labels is None:
            known["file"] = places[number].name
        else:
            known |= {"label": lesion.number, "label_voxels": int((labels[1].array == lesion.number).sum())}
        lesions.append(known)
    return {
        "version": VERSION,
        "palpate": __version__,
        "scan": session.scan.model_dump(mode="json"),
        "model": session.model.model_dump(mode="json"),
        "labels": None if labels is None else places[0].name,
        "overlap": None if labels is None else labels[0],
        "lesions": lesions,
        "notice": "Research software, not a medical device; not for diagnosis or treatment.",
    }


def _write(patches: Sequence[Patch], places: Sequence[Path], listing: Path, record: dict[str, Any]) -> None:
    files = [written_files(place) for place in places]
    with replacing(*(file for group in files for file in group), listing) as staged:
        where = {path.name: path for path in staged}
        for patch, place in zip(patches, places, strict=True):
            write(patch, where[place.name])
        where[listing.name].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _places(shown: Sequence[Lesion], path: Path, to_file: bool, separate: bool, ending: str) -> list[Path]:
    if to_file:
        return [path]
    if not separate:
        return [path / f"{LABELS}{ending}"]
    return [path / f"{lesion.number:02d}-{_plain(lesion.name)}{ending}" for lesion in shown]


def _plain(name: str) -> str:
    """A lesion's name as part of a file's: letters, digits, dashes."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:60] or "lesion"


def _listing_of(path: Path) -> Path:
    ending = next(e for e in sorted(WRITABLE, key=len, reverse=True) if path.name.endswith(e))
    return path.with_name(f"{path.name.removesuffix(ending)}.{LISTING}")


def _folder(path: Path) -> bool:
    """Make an export's folder; returns whether it is new."""
    if path.is_dir():
        return False
    try:
        path.mkdir()
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {path}: {error.strerror or error}; name a folder in one that exists, "
            f"or a file that ends in one of {', '.join(WRITABLE)}"
        ) from error
    return True


def _named_before(listing: Path) -> list[Path]:
    """The masks that an earlier export in this folder named: those that this one does not write must not stay."""
    try:
        record = json.loads(listing.read_text(encoding="utf-8"))
        names = [record["labels"], *(lesion.get("file") for lesion in record["lesions"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    plain = [name for name in names if isinstance(name, str) and Path(name).name == name and name.endswith(WRITABLE)]
    return [file for name in plain for file in written_files(listing.parent / name)]


def _diameter(diameter: Diameter | None) -> dict[str, Any] | None:
    if diameter is None:
        return None
    return {"mm": round(diameter.mm, 3), "ends": [[round(v, 3) for v in end] for end in diameter.ends]}
