"""Connected components of a binary array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Component:
    """One connected component.

    Attributes:
        box: its bounding box, as slices of the array that it was found in.
        inside: booleans `[x, y, z]` in the box: True where the component is.
        first: the first of its voxels, in the order of indices (x, then y, then z).
    """

    box: tuple[slice, slice, slice]
    inside: npt.NDArray[np.bool_]
    first: tuple[int, int, int]


def connected_components(array: npt.NDArray[Any]) -> list[Component]:
    """The components of an array's True voxels, ordered by their first voxel.

    Voxels are connected by a face, an edge or a corner (26-connected). The labelling is cc3d's (Silversmith,
    connected-components-3d): three passes over the array, one label array of the least width that holds all labels.

    Args:
        array: `[X, Y, Z]`, booleans.
    """
    import cc3d

    voxels = np.asarray(array, dtype=bool)
    if not voxels.flags.writeable:  # as a mask from a session's cache is; cc3d takes no such array
        voxels = voxels.copy(order="K")
    labels, count = cc3d.connected_components(voxels, connectivity=26, return_N=True)
    if not count:
        return []
    found = []
    for number, box in enumerate(cc3d.statistics(labels)["bounding_boxes"][1:], start=1):
        inside = labels[box] == number
        corner = np.unravel_index(int(inside.argmax()), inside.shape)
        x, y, z = (int(place) + int(part.start) for place, part in zip(corner, box, strict=True))
        found.append(Component(_plain(box), inside, (x, y, z)))
    return sorted(found, key=lambda component: component.first)


def _plain(box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    x, y, z = (slice(int(part.start), int(part.stop)) for part in box)
    return x, y, z
