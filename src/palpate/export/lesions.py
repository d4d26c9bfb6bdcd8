"""Lesions as files for others: masks or a label map, and a listing of what is known of each lesion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, SessionError
from ..files import file_sha256, replacing, writing
from ..formats import WRITABLE, check_output, check_spared, write, written_files
from ..lesions import (
    Diameter,
    LabelMap,
    LesionRecord,
    NumberedPrompt,
    Overlap,
    OverlapLoss,
    check_overlap,
    label_map,
)
from ..masks import Mask, Patch, Probability
from ..prompt_file import record as entry
from ..prompt_file import summary
from ..prompts import Places
from ..volume import Volume
from .provenance import ExportProvenance

VERSION = 2
LISTING, LABELS, PROMPT = "lesions.json", "labels", "prompt-"
NOTICE = "Research software, not a medical device; not for diagnosis or treatment."


@dataclass(frozen=True)
class ExportedLesions:
    """What an export wrote.

    Attributes:
        files: the masks' files or the label map's, and last the listing's.
        losses: the lesions that lost voxels to the label map's overlap rule; their values are the lesions' numbers.
    """

    files: tuple[Path, ...]
    losses: tuple[OverlapLoss, ...] = ()


class LesionExport:
    """An export that was checked as far as it can be before masks are made.

    Args:
        path: a label map's file (.nii, .nii.gz, .nrrd, .mha or .mhd), beside which `NAME.lesions.json` is written;
            or a folder, made if need be, for `labels.nii.gz` and `lesions.json`.
        volume: the scan.
        separate: in a folder, one mask file for each lesion instead, each whole, whether or not they overlap.
        overlap: see `lesions.label_map`.
        ending: of the files in a folder.

    Raises:
        SessionError: no such overlap rule, or separate masks for one file.
        OutputError: an unknown ending, or a file that may not be replaced.
    """

    def __init__(
        self,
        path: str | Path,
        volume: Volume,
        *,
        separate: bool = False,
        overlap: Overlap = "later",
        ending: str = ".nii.gz",
    ):
        check_overlap(overlap)
        self.path, self.volume, self.separate, self.overlap = Path(path), volume, separate, overlap
        with writing(self.path):
            is_folder = self.path.is_dir()
        self._to_file = self.path.name.endswith(WRITABLE) and not is_folder
        if not self._to_file and self.path.suffix and not is_folder:
            raise OutputError(
                f"{path}: ends in none of {', '.join(WRITABLE)}; give a file one of these. For a folder of that name, "
                "make it first"
            )
        if self._to_file and separate:
            raise SessionError(f"{path}: is one file; name a folder for a mask a lesion")
        if ending not in WRITABLE:
            raise OutputError(f"cannot write {ending!r}: unknown ending; use one of {', '.join(WRITABLE)}")
        self._ending = ending
        self._listing = _listing_of(self.path) if self._to_file else self.path / LISTING
        if self._to_file:
            with writing(self.path):
                check_output(self.path, volume)

    def write(
        self,
        lesions: Sequence[LesionRecord],
        provenance: ExportProvenance,
        probability: Callable[[int], Probability | float] | None = None,
    ) -> ExportedLesions:
        """Write all of the files, or none.

        Args:
            lesions: at least one.
            provenance: written to the listing.
            probability: for the overlap rule "highest", see `lesions.label_map`.

        Raises:
            SessionError: no lesion.
            OutputError: the files cannot be written, or the folder holds another session's export; old files are left
                intact.
        """
        if not lesions:
            raise SessionError("there is no lesion to export; add one first")
        with writing(self.path), self._folder():
            before = _written_before(self._listing, provenance.session, needed=not self._to_file)
            places = self._places(lesions)
            for place in places:
                check_output(place, self.volume)
            patches: Sequence[Patch] = [lesion.mask for lesion in lesions]
            labels = None
            if not self.separate:
                numbered = [(lesion.number, lesion.mask) for lesion in lesions]
                labels = label_map(numbered, self.volume.grid, self.volume.source, self.overlap, probability)
                patches = [labels]
            prompt_files = _PromptFiles(self.volume, self._listing.name.removesuffix(LISTING))
            listing = self._record(lesions, provenance, prompt_files, places, labels)
            written = self._write(patches, places, prompt_files, listing, None if self._to_file else before)
            if self._to_file:  # an older label map was named by its user, and stays
                before = {old: sha256 for old, sha256 in before.items() if prompt_files.owns(old.name)}
            _remove_stale(before, written)
        return ExportedLesions((*places, self._listing), () if labels is None else labels.losses)

    def _places(self, lesions: Sequence[LesionRecord]) -> list[Path]:
        """Where the masks go, or the label map."""
        if self._to_file:
            return [self.path]
        if not self.separate:
            return [self.path / f"{LABELS}{self._ending}"]
        return [self.path / f"{lesion.number:02d}-{_plain(lesion.name)}{self._ending}" for lesion in lesions]

    def _record(
        self,
        lesions: Sequence[LesionRecord],
        provenance: ExportProvenance,
        prompt_files: _PromptFiles,
        places: Sequence[Path],
        labels: LabelMap | None,
    ) -> dict[str, Any]:
        """The listing, but for the files' hashes."""
        from .. import __version__

        listed = []
        for place, lesion in enumerate(lesions):
            facts = lesion_facts(lesion) | {"prompts": [prompt_files.entry(each) for each in lesion.numbered]}
            if labels is None:
                facts["file"] = places[place].name
            else:
                facts |= {"label": lesion.number, "label_voxels": int((labels.array == lesion.number).sum())}
            listed.append(facts)
        return {
            "version": VERSION,
            "palpate": __version__,
            "session": provenance.session,
            "scan": provenance.scan.model_dump(mode="json"),
            "model": provenance.model,
            **provenance.postprocessing.record,
            "labels": None if labels is None else places[0].name,
            "overlap": None if labels is None else self.overlap,
            "lesions": listed,
            "notice": NOTICE,
        }

    def _write(
        self,
        patches: Sequence[Patch],
        places: Sequence[Path],
        prompt_files: _PromptFiles,
        record: dict[str, Any],
        ours: Mapping[Path, str] | None,
    ) -> tuple[Path, ...]:
        """Write all of it, or nothing; the listing names every other file, with its SHA-256.

        Args:
            patches: the masks, or the label map.
            places: where they go.
            prompt_files: the prompts' files.
            record: the listing, but for the files.
            ours: in a folder, what the last export wrote there, which alone may be replaced; None: a file, which its
                user named.

        Raises:
            OutputError: a file of others is in the way, or they cannot be written.
        """
        listing = self._listing
        masks = [file for place in places for file in written_files(place)]
        files = (*masks, *(listing.with_name(name) for name in prompt_files.writers), listing)
        for file in files:
            check_spared(file, self.volume)
            if ours is not None and file != listing:
                _check_ours(file, ours)
        with replacing(*files) as staged:
            where = {path.name: path for path in staged}
            for patch, place in zip(patches, places, strict=True):
                write(patch, where[place.name])
            for name, writer in prompt_files.writers.items():
                writer(where[name])
            record["files"] = {path.name: file_sha256(path) for path in staged[:-1]}
            text = json.dumps(record, indent=1, ensure_ascii=False)
            where[listing.name].write_text(f"{text}\n", encoding="utf-8")
        return files

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """The export's folder, which is made if need be, and taken away again after an error."""
        if self._to_file or self.path.is_dir():
            yield
            return
        advice = f"name a folder in one that exists, or a file that ends in one of {', '.join(WRITABLE)}"
        with writing(self.path, advice, action="make the folder"):
            self.path.mkdir()
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self.path.rmdir()
            raise


def of_other_session(path: str | Path, session: str) -> bool:
    """Whether a label map's file is the export of another session, as the listing beside it says.

    Args:
        path: the label map's file.
        session: the identifier of this session.
    """
    path = Path(path)
    if not path.exists():
        return False
    try:
        record = json.loads(_listing_of(path).read_text(encoding="utf-8"))
        return bool(record["session"] != session and record["labels"] == path.name)
    except (OSError, ValueError, KeyError, TypeError):  # no listing, or none of ours
        return False


def lesion_facts(lesion: LesionRecord) -> dict[str, Any]:
    """What is known of a lesion: plain data. Lengths are millimetres, places RAS millimetres."""
    sizes = lesion.measurements
    return {
        "number": lesion.number,
        "name": lesion.name,
        "status": lesion.status,
        "score": lesion.score,
        "voxels": lesion.mask.voxels,
        "volume_ml": round(sizes.volume_ml, 4),
        "longest": _diameter(sizes.longest),
        "perpendicular": _diameter(sizes.perpendicular),
        "slice": None if sizes.slice_index is None else {"axis": sizes.axis, "index": sizes.slice_index},
        "start": lesion.initial_mask is not None,
        "prompts": [summary(prompt) for prompt in lesion.prompts],
        "prompt_numbers": [each.number for each in lesion.numbered],
    }


class _PromptFiles:
    """Prompts as the entries of a prompt file beside the listing; their masks and long strokes are files there.

    Args:
        volume: the scan.
        prefix: what these files' names begin with.

    Attributes:
        volume: the scan.
        writers: what writes each of the files, by the file's name.
    """

    def __init__(self, volume: Volume, prefix: str):
        self.volume, self._prefix = volume, prefix
        self._number = 0
        self.writers: dict[str, Callable[[Path], object]] = {}

    def entry(self, numbered: NumberedPrompt) -> dict[str, Any]:
        """A prompt's entry."""
        self._number = numbered.number
        return entry(numbered.prompt, self)

    def save_mask(self, mask: Mask) -> str:
        """Plan a file for a mask; returns its name."""
        ours = Mask(mask.array, mask.start, self.volume.grid, self.volume.source)
        return self._plan(".nii.gz", lambda path: write(ours, path))

    def save_places(self, places: Places) -> str:
        """Plan a file for a stroke's voxels, `[N, 3]`; returns its name."""
        return self._plan(".npy", lambda path: np.save(path, places.astype(np.int32), allow_pickle=False))

    def owns(self, name: str) -> bool:
        """Whether a file of that name is a prompt's, of this export or an earlier one."""
        return name.startswith(f"{self._prefix}{PROMPT}")

    def _plan(self, ending: str, writer: Callable[[Path], object]) -> str:
        name = f"{self._prefix}{PROMPT}{self._number}{ending}"
        self.writers[name] = writer
        return name


def _check_ours(file: Path, ours: Mapping[Path, str]) -> None:
    """Refuse to replace what is not as the last export left it."""
    if file.exists() and not any(
        old.exists() and old.samefile(file) and file_sha256(file) == sha256 for old, sha256 in ours.items()
    ):
        raise OutputError(
            f"{file}: is there already, and is not what this session's last export wrote; choose another folder, or "
            "move it away first"
        )


def _plain(name: str) -> str:
    """A lesion's name as part of a file's: letters, digits, dashes."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:60] or "lesion"


def _listing_of(path: Path) -> Path:
    ending = next(e for e in sorted(WRITABLE, key=len, reverse=True) if path.name.endswith(e))
    return path.with_name(f"{path.name.removesuffix(ending)}.{LISTING}")


def _written_before(listing: Path, session: str, *, needed: bool) -> dict[Path, str]:
    """The files that this very session's last export wrote there, with their SHA-256.

    Args:
        listing: the last export's, if there was one.
        session: the identifier of this one.
        needed: refuse a listing of another session, whose masks would go with it; else they are left where they are.

    Raises:
        OutputError: the listing is another session's, or names no session.
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


def _remove_stale(before: Mapping[Path, str], written: Iterable[Path]) -> None:
    """Remove what the last export wrote and this one did not, unless somebody changed it since."""
    new = tuple(written)
    for old, sha256 in before.items():
        # By file, not by name: where capitals make no difference, a renamed lesion's old file is its new one.
        if old.is_file() and not any(old.samefile(file) for file in new) and file_sha256(old) == sha256:
            old.unlink()


def _diameter(diameter: Diameter | None) -> dict[str, Any] | None:
    if diameter is None:
        return None
    return {"mm": round(diameter.mm, 3), "ends": [[round(v, 3) for v in end] for end in diameter.ends]}
