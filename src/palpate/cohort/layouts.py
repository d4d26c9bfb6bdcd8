"""Finding scans and labels by the layout of their folder, which is recognised.

Known are the Medical Segmentation Decathlon's, nnU-Net v2's, KiTS's and LiTS's layouts, two folders of files with equal
names, and a CSV that lists whatever lies anywhere. Nothing is read but listings; nothing is guessed from a
file's name but what its layout's own definition says.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import CohortError, FormatError
from ..files import error_text
from ..formats import READABLE
from .scans import Cohort, LabelledScan
from .split import SUBSETS, Subset

IMAGE_FOLDERS = ("images", "image", "imagestr", "scans", "volumes", "img", "imgs")
LABEL_FOLDERS = ("labels", "label", "labelstr", "masks", "mask", "segmentations", "segs", "seg", "contours")
KITS_LABELS = ("aggregated_MAJ_seg", "segmentation")  # KiTS 2021's majority of three readers; KiTS 2019 and 2023
KNOWN = (
    "dataset.json with imagesTr and labelsTr (Medical Segmentation Decathlon or nnU-Net v2), case_*/imaging.nii.gz "
    "with segmentation.nii.gz (KiTS), volume-N.nii with segmentation-N.nii (LiTS), two folders such as images and "
    "labels with files of equal names, or a CSV with the columns image,label[,patient][,name][,split]"
)


@dataclass
class _Found:
    """What a layout's reader collects."""

    layout: str
    scans: list[LabelledScan] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    modality: str = ""
    licence: str = ""
    listing: str = ""  # the file that lists the pairs, in layouts that have one
    gone: list[str] = field(default_factory=list)  # pairs that it lists, neither half of which is there

    def pair(
        self, name: str, image: Path, label: Path, patient: str | None = None, subset: Subset | None = None
    ) -> None:
        """Add a pair whose files are both there, else a sentence that names the missing one and what to do."""
        if self.listing and not image.exists() and not label.exists():
            self.gone.append(name)
            return
        for path, other in ((image, label), (label, image)):
            if not path.exists():
                self.incomplete.append(
                    f"{name}: {path} is missing (its other half is {other}); add it, or take its half away"
                )
                return
        self.scans.append(LabelledScan(name, image, label, patient or name, subset))

    @property
    def absent(self) -> str:
        """A sentence about the listed scans without any file; empty: there are none."""
        if not self.gone:
            return ""
        first = ", ".join(self.gone[:3]) + (", ..." if len(self.gone) > 3 else "")
        return (
            f"{self.listing}: lists {len(self.gone)} scans that are not there ({first}); if they should be, add them: "
            "the others make a cohort without them"
        )


def find_cohort(
    origin: str | Path, *, patient: str | None = None, channel: int = 0, modality: str | None = None
) -> Cohort:
    """The labelled scans in a folder, or in a CSV.

    Args:
        origin: the folder, or the CSV's path.
        patient: a regular expression; what its first group (or all of it) finds in a scan's name is the scan's
            patient. Without it, a scan's patient is what the layout says, else the scan itself.
        channel: which channel of a scan, in layouts that have several.
        modality: what the scans are, as "CT", "MR" or "PET"; None: what the layout says.

    Raises:
        CohortError: no such folder, no layout that fits, no pair, names that repeat, or a pattern that misses a name.
        FormatError: a listing that is damaged.
    """
    origin = Path(origin)
    try:
        there = origin.exists()
    except OSError as error:
        raise CohortError(f"{origin}: cannot be read ({error_text(error)}); name another") from error
    if not there:
        raise CohortError(f"{origin}: no such folder or file; check the spelling")
    found = _csv(origin) if origin.suffix.lower() == ".csv" else _folder(origin, channel)
    if not found.scans:
        faults = [*sorted(found.incomplete), *filter(None, [found.absent])]
        first = f"; the first: {faults[0]}" if faults else ""
        raise CohortError(f"{origin}: laid out as {found.layout}, but no scan has its label{first}")
    scans = sorted(found.scans, key=lambda scan: scan.name)
    for one, next_ in pairwise(scans):
        if one.name == next_.name:
            raise CohortError(
                f"{origin}: two scans are called {one.name} ({one.image}, {next_.image}); rename one of them"
            )
    if patient is not None:
        scans = [replace(scan, patient=_patient(patient, scan.name)) for scan in scans]
    incomplete, known = tuple(sorted(found.incomplete)), modality or found.modality
    return Cohort(origin, found.layout, tuple(scans), found.labels, incomplete, found.absent, known, found.licence)


def _patient(pattern: str, name: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise CohortError(f"patient pattern {pattern!r} is no regular expression: {error}") from error
    if match is None:
        raise CohortError(f"patient pattern {pattern!r} finds nothing in the scan's name {name!r}")
    found = next((group for group in match.groups() if group is not None), match.group())
    if not found:
        raise CohortError(f"patient pattern {pattern!r} finds an empty text in the scan's name {name!r}")
    return found


def _folder(folder: Path, channel: int) -> _Found:
    if not folder.is_dir():
        raise CohortError(f"{folder}: neither a folder nor a CSV. Known layouts: {KNOWN}")
    readers: Sequence[Callable[[Path], _Found | None]] = (
        lambda at: _listed(at, channel),
        _kits,
        _lits,
        _only_csv,
        _pairs,
    )
    for reader in readers:
        found = reader(folder)
        if found is not None:
            return found
    raise CohortError(f"{folder}: of no known layout. Known: {KNOWN}")


def _listed(folder: Path, channel: int) -> _Found | None:
    """A `dataset.json`: nnU-Net v2's names channels and a file ending, the Decathlon's lists its pairs."""
    path = folder / "dataset.json"
    if not path.is_file():
        return None
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        read = _nnunet if "channel_names" in listing else _decathlon
        found = read(folder, listing, channel)
        found.licence = str(listing.get("licence", listing.get("license", "")))
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: neither the Decathlon's listing nor nnU-Net's ({error!r})") from error


def _decathlon(folder: Path, listing: dict[str, Any], channel: int) -> _Found:
    modalities = listing.get("modality", "")
    modality = modalities.get(str(channel), "") if isinstance(modalities, dict) else modalities
    found = _Found("Medical Segmentation Decathlon", modality=str(modality), listing="dataset.json")
    found.labels = {int(value): str(name) for value, name in listing.get("labels", {}).items() if int(value) > 0}
    for entry in listing["training"]:
        image, label = folder / entry["image"], folder / entry["label"]
        found.pair(_stem(image), image, label)
    return found


def _nnunet(folder: Path, listing: dict[str, Any], channel: int) -> _Found:
    channels, ending = listing["channel_names"], listing["file_ending"]
    if str(channel) not in channels:
        raise CohortError(f"{folder}: no channel {channel}; its channels are {channels}")
    modality = str(channels[str(channel)])
    found = _Found(f"nnU-Net v2, channel {channel} ({modality})", modality=modality)
    for name, value in listing["labels"].items():
        for one in value if isinstance(value, list) else [value]:  # a region is a list of values
            if int(one) > 0:
                found.labels.setdefault(int(one), str(name))
    images = _files(folder / "imagesTr")
    names = {path.name.removesuffix(f"_{channel:04d}{ending}") for path in images if path.name.endswith(ending)}
    names |= {path.name.removesuffix(ending) for path in _files(folder / "labelsTr") if path.name.endswith(ending)}
    for name in sorted(name for name in names if not re.search(rf"_\d{{4}}{re.escape(ending)}$", name)):
        found.pair(name, folder / "imagesTr" / f"{name}_{channel:04d}{ending}", folder / "labelsTr" / f"{name}{ending}")
    return found


def _kits(folder: Path) -> _Found | None:
    cases = [path for path in sorted(folder.glob("case_*")) if path.is_dir()]
    if not any(_existing(case, ("imaging",)) for case in cases):
        return None
    found = _Found("KiTS")
    found.labels = {1: "kidney", 2: "tumour", 3: "cyst"}
    for case in cases:
        image = _existing(case, ("imaging",)) or case / "imaging.nii.gz"
        found.pair(case.name, image, _existing(case, KITS_LABELS) or case / "segmentation.nii.gz")
    return found


def _lits(folder: Path) -> _Found | None:
    files = [path for depth in ("*", "*/*", "*/*/*") for path in sorted(folder.glob(depth))]
    volumes, labels = (
        _each_once(folder, ((number, path) for path in files if (number := _number(path, word))))
        for word in ("volume", "segmentation")
    )
    if not volumes or not labels:
        return None
    found = _Found("LiTS")
    found.labels = {1: "liver", 2: "tumour"}
    for number in sorted(volumes.keys() | labels.keys(), key=int):
        image = volumes.get(number, folder / f"volume-{number}.nii")
        found.pair(f"volume-{number}", image, labels.get(number, folder / f"segmentation-{number}.nii"))
    return found


def _each_once(folder: Path, named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by name; two of one name are an error, since either may be the one that is meant."""
    found: dict[str, Path] = {}
    for name, path in named:
        if found.setdefault(name, path) != path:
            raise CohortError(f"{folder}: {found[name]} and {path} are both {name}; rename or remove one of them")
    return found


def _number(path: Path, word: str) -> str | None:
    match = re.fullmatch(rf"{word}-(\d+)\.nii(\.gz)?", path.name)
    return match[1] if match else None


def _pairs(folder: Path) -> _Found | None:
    """Two folders, one of images and one of labels, with files of equal names."""
    folders = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in LABEL_FOLDERS if name in folders), None)
    if images is None or labels is None:
        return None
    found = _Found(f"folders {images.name} and {labels.name}")
    by_stem = [
        _each_once(place, ((_stem(path), path) for path in _files(place) if _is_scan(path)))
        for place in (images, labels)
    ]
    for name in sorted(by_stem[0].keys() | by_stem[1].keys()):
        found.pair(name, by_stem[0].get(name, images / name), by_stem[1].get(name, labels / name))
    return found


def _only_csv(folder: Path) -> _Found | None:
    listings = [path for path in _files(folder) if path.suffix.lower() == ".csv"]
    with_columns = [path for path in listings if {"image", "label"} <= set(_columns(path))]
    if len(with_columns) > 1:
        raise CohortError(
            f"{folder}: several listings ({', '.join(p.name for p in with_columns)}); name the one you mean"
        )
    return _csv(with_columns[0]) if with_columns else None


def _columns(path: Path) -> list[str]:
    try:
        # Names further down may be of any encoding; `_rows` complains of them, once it is known whose listing this is.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, csv.Error):
        return []


def _csv(path: Path) -> _Found:
    """Rows of image,label[,patient][,name][,split]; paths relative to the CSV, an image may be a folder of slices."""
    columns = _columns(path)
    if not {"image", "label"} <= set(columns):
        raise CohortError(f"{path}: a listing has the columns image,label[,patient][,name][,split], this one {columns}")
    found = _Found("CSV", listing=path.name)
    rows = list(_rows(path, columns))
    stems = [_stem(Path(row["image"])) for _, row in rows]
    shared = {stem for stem, count in Counter(stems).items() if count > 1}
    for (number, row), stem in zip(rows, stems, strict=True):
        if not row["image"] or not row["label"]:
            found.incomplete.append(f"{path.name} line {number}: has no image or no label; add it, or delete the line")
            continue
        # Files of one name in several folders are told apart by their paths.
        name = row.get("name") or (_flat(Path(row["image"]), stem) if stem in shared else stem)
        subset = row.get("split") or None
        if subset is not None and subset not in SUBSETS:
            raise CohortError(f"{path} line {number}: split {subset!r} is not one of {', '.join(SUBSETS)}")
        found.pair(name, path.parent / row["image"], path.parent / row["label"], row.get("patient"), subset)
    return found


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row that is not empty, and the line it ends on.

    Raises:
        FormatError: not UTF-8, or no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            next(reader, None)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    row = dict(zip(columns, [cell.strip() for cell in cells] + [""] * len(columns), strict=False))
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 ({error.reason}); save it again as UTF-8") from error
    except csv.Error as error:
        raise FormatError(f"{path}: not a CSV ({error})") from error


def _flat(path: Path, stem: str) -> str:
    return "_".join([*(part for part in path.parts[:-1] if part not in (".", "..", "/")), stem])


def _existing(folder: Path, stems: Sequence[str]) -> Path | None:
    candidates = (folder / f"{stem}{ending}" for stem in stems for ending in (".nii.gz", ".nii"))
    return next((path for path in candidates if path.is_file()), None)


def _files(folder: Path) -> list[Path]:
    """A folder's files but the hidden ones, among them the `._` twins that macOS leaves; none if there is no folder."""
    return sorted(p for p in folder.glob("*") if p.is_file() and not p.name.startswith(".")) if folder.is_dir() else []


def _is_scan(path: Path) -> bool:
    return path.name.lower().endswith(READABLE)


def _stem(path: Path) -> str:
    """A file's name without its format's ending: "a.b.nii.gz" is "a.b"."""
    ending = next((e for e in sorted(READABLE, key=len, reverse=True) if path.name.lower().endswith(e)), "")
    return path.name[: len(path.name) - len(ending)] if ending else path.name
