"""Folders of DICOM slices, through pydicom; what it cannot decompress, SimpleITK does.

A series becomes one array: x runs along a slice's rows (the image's columns), y down its columns,
z along the slices' normal, in the order of their positions; names and instance numbers count for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, ScanError, SeriesError
from ..volume import Source, Volume
from . import suv
from .dicom_masks import how_to_convert
from .quiet import ignored_warnings
from .stack import PLACEMENT, Slice, affine, in_order

if TYPE_CHECKING:
    from pydicom import Dataset

_HEADER = (
    *PLACEMENT,
    *("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType"),
    *("SamplesPerPixel", "BitsAllocated", "RescaleSlope", "RescaleIntercept", "RescaleType", "SliceThickness"),
    *("SpacingBetweenSlices", *suv.KEYWORDS),
)
_SLICES = ("CT Image Storage", "MR Image Storage", "Positron Emission Tomography Image Storage")


@dataclass(frozen=True)
class Series:
    """A DICOM series of slices.

    Attributes:
        uid: its Series Instance UID.
        number: its Series Number, or "" if it has none.
        modality: "CT", "MR" or "PT".
        description: the scanner's own text.
        files: its slices' files, in no particular order.
    """

    uid: str
    number: str
    modality: str
    description: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return (
            f"{self.uid}  number {self.number or '-'}  {self.modality}  {self.description!r}  {len(self.files)} slices"
        )


def list_series(folder: Path) -> tuple[Series, ...]:
    """The series in a folder; see `palpate.formats.list_series`."""
    with ignored_warnings("pydicom"):
        return tuple(_described(slices) for slices in _find(folder))


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def kind_of(path: Path) -> str:
    """What a DICOM file holds, by the name of its SOP class; "" where it does not say."""
    try:
        header = _header(path)
    except FormatError:
        return ""
    return "" if header is None else _kind(header)


def read(folder: Path, series: str | None = None) -> Volume:
    """The scan in a folder; see `palpate.formats.read`.

    Raises:
        SeriesError: no series, several, or one with gaps, repeated positions or unlike slices.
        FormatError: a damaged or unsupported file.
        ScanError, GeometryError: colour images, or as `Volume` raises them.
    """
    with ignored_warnings("pydicom"):  # odd values in attributes that nobody asks for
        slices = in_order(_choose(_find(folder), series))
        placed = affine(slices)
        scale, notes = _suv_scale(slices, folder)
        source = Source(str(folder), "dicom", _described(slices))
        return Volume(_scaled(slices, scale), placed, source, notes, _unit(slices[0], in_suv=not notes))


def _find(folder: Path) -> list[list[Slice]]:
    """Slices by series, those of the folder itself or else those below."""
    here = _files(folder.iterdir())
    found, others = _sort_out(here)
    if not found:
        below = _files(path for path in folder.rglob("*") if path.parent != folder)
        found, more = _sort_out(below)
        others |= more
    if not found:
        multi_frame = any("Enhanced" in kind for kind in others)
        advice = None if multi_frame else how_to_convert(others, folder)  # a scan is there: it is what was meant
        if advice is not None:
            raise SeriesError(f"holds no series of CT, MR or PET slices: {advice}")
        present = f"only {', '.join(sorted(others))}" if others else "no DICOM files"
        frames = "; convert multi-frame files to NIfTI first" if multi_frame else ""
        raise SeriesError(
            f"holds no series of CT, MR or PET slices ({present}); give the folder that holds the slices{frames}"
        )
    return found


def _files(paths: Iterable[Path]) -> list[Path]:
    # Hidden ones are not slices: macOS leaves a "._" file beside each on foreign disks.
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _sort_out(paths: Iterable[Path]) -> tuple[list[list[Slice]], set[str]]:
    """Slices by series, and the kinds of DICOM objects that are not slices."""
    series: dict[str, list[Slice]] = {}
    others: set[str] = set()
    for path in paths:
        header = _header(path)
        if header is None:
            continue
        name = _kind(header)
        if not name:
            raise FormatError(_damaged(path, "it does not say what it holds"))
        if name not in _SLICES:
            others.add(name)
        elif "LOCALIZER" in (header.get("ImageType") or ()):
            others.add("localizers")
        else:
            series.setdefault(str(header.get("SeriesInstanceUID")), []).append(_checked(path, header))
    return list(series.values()), others


def _header(path: Path) -> Dataset | None:
    """A DICOM file's attributes before its pixels; None for other files."""
    import pydicom

    if not is_dicom(path):
        if path.suffix.lower() in (".dcm", ".ima"):
            raise FormatError(f"{path.name} is not DICOM though named so; copy it again, or take it out of the folder")
        return None
    try:
        header: Dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except PermissionError:
        raise
    except Exception as error:  # pydicom meets damage in many ways
        raise FormatError(_damaged(path, error)) from error
    return header


def _kind(header: Dataset) -> str:
    kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
    return "" if kind is None else str(kind.name)


def _checked(path: Path, header: Dataset) -> Slice:
    missing = [keyword for keyword in PLACEMENT if not header.get(keyword)]
    if missing:
        raise FormatError(_damaged(path, f"it lacks {', '.join(missing)}"))
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ScanError(f"{path.name} is a colour image; convert it to one channel first")
    return Slice(path, header)


def _damaged(path: Path, why: object) -> str:
    return f"{path.name} is damaged ({why}); copy it again, or take it out of the folder"


def _described(slices: Sequence[Slice]) -> Series:
    uid, number, modality, description = (
        str(slices[0].header.get(keyword) or "")
        for keyword in ("SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription")
    )
    return Series(uid, number, modality, description, tuple(part.path for part in slices))


def _choose(found: list[list[Slice]], wanted: str | None) -> list[Slice]:
    """The series asked for: by UID, then by number, then by a part of the UID's beginning or end."""
    series = {_described(slices): slices for slices in found}
    matches = list(series)
    if wanted is not None:
        uid = [one for one in series if one.uid == wanted]
        number = [one for one in series if one.number == wanted]
        part = [one for one in series if one.uid.startswith(wanted) or one.uid.endswith(wanted)]
        matches = uid or number or part
    if len(matches) == 1:
        return series[matches[0]]
    what = "holds" if wanted is None else f"{wanted!r} names {len(matches) or 'none'} of"
    rows = "".join(f"\n  {one}" for one in series)
    raise SeriesError(
        f"{what} {len(series)} series; choose one by UID or number with --series (library: series=):{rows}"
    )


def _scaled(slices: Sequence[Slice], unit: float) -> npt.NDArray[Any]:
    """The voxels, `[X, Y, Z]`: rescaled, times a unit; whole numbers stay whole numbers."""
    scales = [(unit * _number(part, "RescaleSlope", 1), _number(part, "RescaleIntercept", 0) * unit) for part in slices]
    whole = all(slope.is_integer() and intercept.is_integer() for slope, intercept in scales)
    whole = whole and all(int(part.header.get("BitsAllocated", 16)) <= 16 for part in slices)
    columns, rows = int(slices[0].header.Columns), int(slices[0].header.Rows)
    array = np.empty((columns, rows, len(slices)), np.int32 if whole else np.float32, order="F")
    for z, (part, (slope, intercept)) in enumerate(zip(slices, scales, strict=True)):
        array[:, :, z] = _pixels(part.path, (rows, columns)).T * slope + intercept
    short = np.iinfo(np.int16)
    fits = whole and short.min <= array.min() and array.max() <= short.max
    return array.astype(np.int16) if fits else array


def _number(part: Slice, keyword: str, default: float) -> float:
    value = part.header.get(keyword)
    return float(default if value is None else value)


def _suv_scale(slices: Sequence[Slice], folder: Path) -> tuple[float, tuple[str, ...]]:
    """What turns a PET series' values into SUV (1 for other series), and a note where the header does not allow it."""
    if slices[0].header.get("Modality") != "PT":
        return 1.0, ()
    try:
        return suv.scale([part.header for part in slices]), ()
    except ValueError as error:
        return 1.0, (f"{folder}: the PET values stay as stored, not in SUV: {error}",)


def _unit(part: Slice, *, in_suv: bool) -> str | None:
    """What a series' values are; CT is in HU where no other type is named.

    Sources: DICOM PS3.3, C.11.1.1.2 (Rescale Type) and C.8.9.1.1.3 (Units of PET).
    """
    header = part.header
    if header.get("Modality") == "PT":
        stored = {"BQML": "Bq/mL", "CNTS": "counts"}
        return "SUV" if in_suv else stored.get(str(header.get("Units", "")))
    if header.get("Modality") == "CT":
        return "HU" if (header.get("RescaleType") or "HU") == "HU" else None
    return "arbitrary units" if header.get("Modality") == "MR" else None


def _pixels(path: Path, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """A slice's stored values, `[rows, columns]`."""
    import pydicom

    try:
        data = pydicom.dcmread(path)
        array = data.pixel_array if _decodable(data) else _decoded(data)
        return np.asarray(array).reshape(shape)
    except PermissionError:
        raise
    except Exception as error:  # pydicom meets damage in many ways
        raise FormatError(_damaged(path, error)) from error


def _decodable(data: Dataset) -> bool:
    """Whether pydicom has a decoder here; for some kinds of JPEG it wants further packages."""
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    return not syntax.is_encapsulated or bool(get_decoder(syntax).is_available)


def _decoded(data: Dataset) -> npt.NDArray[Any]:
    """Compressed pixels by SimpleITK, which decodes all of DICOM's usual schemes and comes along anyway."""
    import SimpleITK

    for keyword in ("RescaleSlope", "RescaleIntercept"):
        data.pop(keyword, None)  # ITK would apply them, to some modalities
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slice.dcm")
        data.save_as(path)
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")))
