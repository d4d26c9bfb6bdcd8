"""NRRD and MetaImage, through SimpleITK.

ITK counts millimetres along LPS (+x left, +y posterior, +z superior), we along RAS; ITK's arrays
come `[Z, Y, X]`. Both are turned here and nowhere else.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, OutputError, ScanError
from ..volume import FloatArray, Grid, Source, Volume
from .mark import KEY, mark

if TYPE_CHECKING:
    from SimpleITK import Image, ImageFileReader

READABLE = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nrrd", ".mha", ".mhd")
DETACHED = {".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}  # headers, and the endings of their voxels
_LPS = np.array([-1.0, -1.0, 1.0])  # RAS to LPS and back
# Cosine between two axes beyond which a grid counts as sheared: 1/20 voxel over 500 voxels.
_SHEAR = 1e-4


@dataclass(frozen=True)
class Placement:
    """A grid in ITK's terms, LPS millimetres; stored as a file's header, to be repeated.

    Attributes:
        origin: centre of the first voxel, `[3]`.
        spacing: edge of a voxel along each axis, `[3]`.
        direction: cosines, `[9]` row by row; column `a` is where array axis `a` points.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    @property
    def affine(self) -> FloatArray:
        """Voxel index to RAS millimetres, `[4, 4]`."""
        affine = np.eye(4)
        affine[:3, :3] = _LPS[:, None] * np.reshape(self.direction, (3, 3)) * np.array(self.spacing)
        affine[:3, 3] = _LPS * np.array(self.origin)
        return affine

    @classmethod
    def of(cls, grid: Grid, source: Source | None) -> Placement:
        """The source's own numbers if they describe `grid`, else the grid's."""
        own = _own(grid, source)
        if own is not None:
            return own
        axes = _LPS[:, None] * grid.affine[:3, :3] / grid.spacing
        return cls(
            tuple((_LPS * grid.affine[:3, 3]).tolist()), tuple(grid.spacing.tolist()), tuple(axes.ravel().tolist())
        )


def read(path: Path) -> Volume:
    """The scan in an NRRD or MetaImage file.

    Raises:
        FormatError: not of its format, truncated or damaged.
        ScanError, GeometryError: several numbers a voxel, or as `Volume` raises them.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_library(path))
    try:
        reader.ReadImageInformation()
        grid, placement = _placed(reader, reader.GetNumberOfComponents())
        image = reader.Execute()
    except RuntimeError as error:
        raise FormatError(_damaged(path, error)) from error
    unplaced = _family(path) == "nrrd" and not reader.HasMetaDataKey("NRRD_space")
    note = f"{path}: the header names no anatomical space; orientation {grid.orientation} was assumed"
    # A view would be free, but SimpleITK's dies with its image.
    array = SimpleITK.GetArrayFromImage(image).T
    return Volume(array, grid.affine, Source(str(path), _family(path), placement), (note,) if unplaced else ())


def of_image(image: Image) -> Volume:
    """The scan in an image of SimpleITK's; its voxels are copied.

    Raises:
        ScanError, GeometryError: several numbers a voxel, or as `Volume` raises them.
    """
    import SimpleITK

    return Volume(SimpleITK.GetArrayFromImage(image).T, grid_of(image).affine)


def grid_of(image: Image) -> Grid:
    """The grid of an image of SimpleITK's.

    Raises:
        ScanError, GeometryError: several numbers a voxel, or as `Volume` raises them.
    """
    return _placed(image, image.GetNumberOfComponentsPerPixel())[0]


def mark_of(path: Path) -> str:
    """The text in a file's header that names its writer; see `mark`.

    Raises:
        FormatError: not of its format, or damaged.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_library(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FormatError(_damaged(path, error)) from error
    return str(reader.GetMetaData(KEY)) if reader.HasMetaDataKey(KEY) else ""


def write(path: Path, array: npt.NDArray[Any], grid: Grid, source: Source | None) -> None:
    """Write `array` `[X, Y, Z]` compressed, with the source's own placement where it describes `grid`.

    Raises:
        OSError: the disk or the folder refuses.
    """
    import SimpleITK

    placement = Placement.of(grid, source)
    image = SimpleITK.GetImageFromArray(array.T, isVector=False)
    image.SetOrigin(placement.origin)
    image.SetSpacing(placement.spacing)
    image.SetDirection(placement.direction)
    image.SetMetaData(KEY, mark(array))
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True, imageIO=_library(path))
        # ITK does not notice that a disk filled up while it closed the file.
        back = SimpleITK.ReadImage(str(path), imageIO=_library(path))
    except RuntimeError as error:
        raise OSError(errno.EIO, f"the file was not written whole ({_reason(error)})") from error
    if not np.array_equal(SimpleITK.GetArrayViewFromImage(back), array.T, equal_nan=True):
        raise OSError(errno.EIO, "the file does not read back as it was written")


def check_grid(path: Path, grid: Grid, source: Source | None) -> None:
    """Refuse a grid that ITK's formats cannot hold: one whose axes are not at right angles.

    Raises:
        OutputError: the grid is sheared and not a file's of these formats.
    """
    axes = grid.affine[:3, :3] / grid.spacing
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > _SHEAR and _own(grid, source) is None:
        degrees = np.degrees(np.arcsin(min(cosine, 1.0)))
        raise OutputError(
            f"cannot write {path}: the scan's axes are {degrees:.2f} degrees off right angles, which "
            f"{path.suffix} cannot hold; save as .nii.gz"
        )


def _own(grid: Grid, source: Source | None) -> Placement | None:
    """The source's own placement, if it is a file of these formats and describes `grid`."""
    header = source.header if source is not None else None
    return header if isinstance(header, Placement) and np.array_equal(header.affine, grid.affine) else None


def _placed(header: Image | ImageFileReader, components: int) -> tuple[Grid, Placement]:
    """The grid that a header describes, checked before the voxels are read, which may take long."""
    if components != 1:
        raise ScanError(f"each voxel holds {components} numbers (colour or vector); convert it to one channel first")
    shape = Volume(np.broadcast_to(np.int8(0), header.GetSize()), np.eye(4)).shape
    direction = np.reshape(header.GetDirection(), (header.GetDimension(),) * 2)[:3, :3]
    placement = Placement(header.GetOrigin()[:3], header.GetSpacing()[:3], tuple(direction.ravel().tolist()))
    return Grid(shape, placement.affine), placement


def _library(path: Path) -> str:
    return "NrrdImageIO" if _family(path) == "nrrd" else "MetaImageIO"


def _family(path: Path) -> str:
    return "nrrd" if path.suffix.lower() in (".nrrd", ".nhdr") else "metaimage"


def _damaged(path: Path, error: RuntimeError) -> str:
    name = "NRRD" if _family(path) == "nrrd" else "MetaImage"
    pair = " and its second file, which holds the voxels," if path.suffix.lower() in (".mhd", ".nhdr") else ""
    return f"not a readable {name} file ({_reason(error)}); copy it{pair} again from where it came"


def _reason(error: RuntimeError) -> str:
    """The informative line of ITK's message: its last but for MetaImage's, which adds a stale errno."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if not line.startswith("Reason:")), "no reason given")
    return reason.rpartition("): ")[2]  # without the address of an object
