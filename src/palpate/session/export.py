"""A session's lesions as files for others: masks or a label map, and what is known of each lesion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, SessionError
from ..files import file_sha256, replacing, writing
from ..formats import WRITABLE, check_output, check_spared, write, written_files
from ..prompt_file import record as entry
from ..prompt_file import summary
from ..prompts import Places
from ..volume import Mask, Patch, Volume
from .labels import Overlap, check_overlap
from .measurements import Diameter, measure

if TYPE_CHECKING:
    from .lesions import Lesion, NumberedPrompt
    from .session import Session

VERSION = 2
LISTING, LABELS, PROMPT = "lesions.json", "labels", "prompt-"


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
    if not to_file and path.suffix and not path.is_dir():
        raise OutputError(
            f"{path}: ends in none of {', '.join(WRITABLE)}; give a file one of these. For a folder of that name, make "
            "it first"
        )
    if to_file and separate:
        raise SessionError(f"{path}: is one file; name a folder for a mask a lesion")
    if ending not in WRITABLE:
        raise OutputError(f"cannot write {ending!r}: unknown ending; use one of {', '.join(WRITABLE)}")
    places = _places(shown, path, to_file, separate, ending)
    made = _folder(path) if not to_file else False
    try:
        listing = _listing_of(path) if to_file else path / LISTING
        before = _written_before(listing, session.fingerprint, needed=not to_file)
        pointed = _Pointed(session.volume, listing.name.removesuffix(LISTING))
        for place in places:
            check_output(place, session.volume)
        patches: list[Patch] = (
            [session.mask(lesion.number) for lesion in shown]
            if separate
            else [session.label_map(overlap, accepted_only=accepted_only)]
        )
        record = _record(session, shown, pointed, places, None if separate else (overlap, patches[0]))
        written = _write(patches, places, pointed, listing, record, None if to_file else before)
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise
    if to_file:  # an older label map was named by its user, and stays
        before = {old: sha256 for old, sha256 in before.items() if pointed.keeps(old.name)}
    _clear(before, written)
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
        "prompt_numbers": [each.number for each in lesion.numbered],
    }


class _Pointed:
    """Prompts as the entries of a prompt file beside the listing; their masks and long strokes are files there.

    Args:
        volume: the scan.
        beginning: of these files' names.

    Attributes:
        volume: the scan.
        writing: how each of the files is written, by its name.
    """

    def __init__(self, volume: Volume, beginning: str):
        self.volume, self._beginning = volume, beginning
        self._number = 0
        self.writing: dict[str, Callable[[Path], object]] = {}

    def entry(self, numbered: NumberedPrompt) -> dict[str, Any]:
        """A prompt's entry."""
        self._number = numbered.number
        return entry(numbered.prompt, self)

    def keep_mask(self, mask: Mask) -> str:
        """Remember a mask for a file of its own; returns its name."""
        ours = Mask(mask.array, mask.start, self.volume.grid, self.volume.source)
        return self._keep(".nii.gz", lambda path: write(ours, path))

    def keep_places(self, places: Places) -> str:
        """Remember a stroke's voxels, `[N, 3]`, for a file of their own; returns its name."""
        return self._keep(".npy", lambda path: np.save(path, places.astype(np.int32), allow_pickle=False))

    def keeps(self, name: str) -> bool:
        """Whether a file of that name is a prompt's, of this export or an earlier one."""
        return name.startswith(f"{self._beginning}{PROMPT}")

    def _keep(self, ending: str, writing: Callable[[Path], object]) -> str:
        name = f"{self._beginning}{PROMPT}{self._number}{ending}"
        self.writing[name] = writing
        return name


def _record(
    session: Session,
    shown: Sequence[Lesion],
    pointed: _Pointed,
    places: Sequence[Path],
    labels: tuple[Overlap, Patch] | None,
) -> dict[str, Any]:
    from .. import __version__

    lesions = []
    for number, lesion in enumerate(shown):
        known = lesion_record(session, lesion) | {"prompts": [pointed.entry(each) for each in lesion.numbered]}
        if labels is None:
            known["file"] = places[number].name
        else:
            known |= {"label": lesion.number, "label_voxels": int((labels[1].array == lesion.number).sum())}
        lesions.append(known)
    return {
        "version": VERSION,
        "palpate": __version__,
        "session": session.fingerprint,
        "scan": session.scan.model_dump(mode="json"),
        "model": session.model.model_dump(mode="json"),
        "labels": None if labels is None else places[0].name,
        "overlap": None if labels is None else labels[0],
        "lesions": lesions,
        "notice": "Research software, not a medical device; not for diagnosis or treatment.",
    }


def _write(
    patches: Sequence[Patch],
    places: Sequence[Path],
    pointed: _Pointed,
    listing: Path,
    record: dict[str, Any],
    ours: Mapping[Path, str] | None,
) -> tuple[Path, ...]:
    """Write all of it, or nothing; the listing names every other file, with its SHA-256.

    Args:
        patches: the masks, or the label map.
        places: where they go.
        pointed: the prompts' files.
        listing: where the listing goes.
        record: what it says, but for the files.
        ours: in a folder, what the last export wrote there, which alone may be replaced; a file was named by its user.

    Raises:
        OutputError: a file of others is in the way, or they cannot be written.
    """
    masks = [file for place in places for file in written_files(place)]
    files = (*masks, *(listing.with_name(name) for name in pointed.writing), listing)
    for file in files:
        check_spared(file, pointed.volume)
        if ours is not None and file != listing:
            _check_ours(file, ours)
    with replacing(*files) as staged:
        where = {path.name: path for path in staged}
        for patch, place in zip(patches, places, strict=True):
            write(patch, where[place.name])
        for name, writing in pointed.writing.items():
            writing(where[name])
        record["files"] = {path.name: file_sha256(path) for path in staged[:-1]}
        where[listing.name].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return files


def _check_ours(file: Path, ours: Mapping[Path, str]) -> None:
    """Refuse to replace what is not as the last export left it."""
    if file.exists() and not any(
        old.exists() and old.samefile(file) and file_sha256(file) == sha256 for old, sha256 in ours.items()
    ):
        raise OutputError(
            f"{file}: is there already, and is not what this session's last export wrote; choose another folder, or "
            "move it away first"
        )


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
    advice = f"name a folder in one that exists, or a file that ends in one of {', '.join(WRITABLE)}"
    with writing(path, advice, action="make the folder"):
        path.mkdir()
    return True


def _written_before(listing: Path, session: str, *, needed: bool) -> dict[Path, str]:
    """The files that this very session's last export wrote there, with their SHA-256.

    Args:
        listing: the last export's, if there was one.
        session: the fingerprint of this one.
        needed: refuse a listing of another session, whose masks would go with it; else they are left where they are.

    Raises:
        OutputError: it is another session's, or cannot be told whose.
    """
    if not listing.exists():
        return {}
    try:
        record = json.loads(listing.read_text(encoding="utf-8"))
        files = dict(record["files"]) if record["session"] == session else None
    except (OSError, ValueError, KeyError, TypeError):
        files = None
    if files is None and needed:
        raise OutputError(
            f"{listing.parent}: its {listing.name} is not of this session's last export, and others' masks could be "
            "lost; choose another folder, or move what is there away first"
        )
    return {listing.with_name(name): str(sha256) for name, sha256 in (files or {}).items() if Path(name).name == name}


def _clear(before: Mapping[Path, str], written: Iterable[Path]) -> None:
    """Take away what the last export wrote and this one did not, unless somebody changed it since."""
    kept = tuple(written)
    for old, sha256 in before.items():
        # By file, not by name: where capitals make no difference, a renamed lesion's old file is its new one.
        if old.is_file() and not any(old.samefile(file) for file in kept) and file_sha256(old) == sha256:
            old.unlink()


def _diameter(diameter: Diameter | None) -> dict[str, Any] | None:
    if diameter is None:
        return None
    return {"mm": round(diameter.mm, 3), "ends": [[round(v, 3) for v in end] for end in diameter.ends]}
