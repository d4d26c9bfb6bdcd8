"""What rules of prompts cost or gain in Dice on validation: a box's margin, a background click's reach and its place.

    python benchmarks/prompt_rules.py boxes DATA
    python benchmarks/prompt_rules.py background DATA
    python benchmarks/prompt_rules.py excess DATA

`boxes` draws a box as the simulated user does, too small by 5 to 15 % of an edge at each face, and moved by 10 to 20 %.
It predicts with the box as a hint, and cuts that mask to the box and to some margins. `background` clicks once on the
lesion, then at several distances off the mask and off the lesion, with the rule that such a click changes nothing
switched off. `excess` clicks once on the lesion, then on the background in the middle of the largest excess, and sorts
by how thick that is. Each prints means and 95 % intervals of the change by patient. DATA: as for train_tiny.py, whose
split and scans these are; of sarcoma, PET alone unless --all-sarcoma is given.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
from scipy import ndimage

from palpate.cohort import LabelledVolume
from palpate.evaluation import dice
from palpate.evaluation.figure import bootstrap_interval
from palpate.inference import InferenceSettings, lesion_state
from palpate.inference.bounds import inside
from palpate.predictor import Predictor
from palpate.prompts import Box, Click
from palpate.randomness import counted_rng
from palpate.simulation import SimulatedUser
from train_tiny import SHARES, kind_of, patient_of, scans_of

Row = tuple[str, str, float]  # what is compared, the patient, and a change of Dice or a share
KINDS = ("drawn", "too small", "moved")
MARGINS = (0.0, 0.05, 0.1, 0.15, 0.2)  # of a box's edge, beyond each face; but for 0, a voxel at least
DISTANCES_MM = ((1, 3), (4, 6), (8, 12), (18, 26))
THICKNESSES_MM = (0, 3, 5, 8, 12, np.inf)


def scans(data: Path, count: int, all_sarcoma: bool) -> Iterator[tuple[str, LabelledVolume]]:
    """The first validation scans of each cohort, each with what its figure is counted under."""
    for cohort in SHARES:
        found = scans_of(data, cohort, "validation")
        wanted = (scan for scan in found if cohort != "sarcoma" or all_sarcoma or scan.name.endswith("PET"))
        for scan in islice(wanted, count):
            yield kind_of(cohort, scan.name), scan


def box_of(kind: str, scan: LabelledVolume) -> Box:
    """A box around the target, drawn well or not."""
    if kind == "drawn":
        drawn = SimulatedUser(scan.target, scan.volume.grid, 0, scan.name).first("box")
        assert isinstance(drawn, Box)
        return drawn
    places = np.argwhere(scan.target)
    low, high = places.min(axis=0), places.max(axis=0)
    edge, rng = high - low + 1, counted_rng(0, f"measure {'small' if kind == 'too small' else 'shifted'} {scan.name}")
    if kind == "too small":
        low_off, high_off = rng.uniform(0.05, 0.15, 3) * edge, -rng.uniform(0.05, 0.15, 3) * edge
    else:
        low_off = high_off = rng.choice([-1, 1], 3) * rng.uniform(0.1, 0.2, 3) * edge
    last = np.array(scan.volume.shape) - 1
    first, end = (np.clip(np.rint(at), 0, last).astype(int).tolist() for at in (low + low_off, high + high_off))
    return Box((first[0], first[1], first[2]), (end[0], end[1], end[2]), loose=True)


def boxes(predictor: Predictor, kind: str, scan: LabelledVolume) -> Iterator[Row]:
    """The change of Dice by each margin, against the box as a hint."""
    patient = patient_of(kind.partition(" ")[0], scan.name)
    predictor.set_volume(scan.volume)
    for drawn in KINDS:
        box = box_of(drawn, scan)
        mask = predictor.predict([Box(box.first, box.last, loose=True)]).mask
        as_hint = dice(mask.full(), scan.target)
        yield f"{kind}, {drawn}: a hint (Dice)", patient, as_hint
        for margin in MARGINS:
            bounded = replace(mask, array=mask.array & inside([box], mask, margin))
            change = dice(bounded.full(), scan.target) - as_hint
            yield f"{kind}, {drawn}: {f'margin {margin:.0%}' if margin else 'strict'}", patient, change


def background(predictor: Predictor, kind: str, scan: LabelledVolume) -> Iterator[Row]:
    """The change of Dice by a background click off the mask and off the target."""
    predictor.set_volume(scan.volume)
    first = SimulatedUser(scan.target, scan.volume.grid, 0, scan.name).first()
    mask = predictor.predict([first]).mask.full()
    away = ndimage.distance_transform_edt(~(mask | scan.target), sampling=scan.volume.spacing)
    for low, high in DISTANCES_MM:
        places = np.argwhere((away >= low) & (away < high))
        if not len(places) or not mask.any():
            continue
        x, y, z = places[int(counted_rng(0, f"far {low} {scan.name}").integers(len(places)))].tolist()
        after = predictor.predict([first, Click((x, y, z), positive=False)]).mask.full()
        change, patient = (
            dice(after, scan.target) - dice(mask, scan.target),
            patient_of(kind.partition(" ")[0], scan.name),
        )
        yield f"{low} to {high} mm off", patient, change
        taken = mask & ~after
        if taken.any():
            yield (
                f"{low} to {high} mm off, lesion of what it took",
                patient,
                float((taken & scan.target).sum() / taken.sum()),
            )


def excess(predictor: Predictor, kind: str, scan: LabelledVolume) -> Iterator[Row]:
    """The change of Dice by a background click in the middle of the largest excess, by the excess's thickness."""
    predictor.set_volume(scan.volume)
    first = SimulatedUser(scan.target, scan.volume.grid, 0, scan.name).first()
    mask = predictor.predict([first]).mask.full()
    pieces, count = ndimage.label(mask & ~scan.target)
    if not count:
        return
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    depth = ndimage.distance_transform_edt(largest, sampling=scan.volume.spacing)
    x, y, z = (int(place) for place in np.unravel_index(int(depth.argmax()), depth.shape))
    thick = 2 * float(depth.max()) - min(scan.volume.spacing)  # a layer of one voxel is a voxel thick
    after = predictor.predict([first, Click((x, y, z), positive=False)]).mask.full()
    upper = next(edge for edge in THICKNESSES_MM if thick <= edge)
    name, patient = f"up to {upper:g} mm thick", patient_of(kind.partition(" ")[0], scan.name)
    taken = mask & ~after
    yield f"{name}: Dice", patient, dice(after, scan.target) - dice(mask, scan.target)
    yield f"{name}: taken, of the excess", patient, float(taken.sum() / largest.sum())
    if taken.any():
        yield f"{name}: lesion of what it took", patient, float((taken & scan.target).sum() / taken.sum())


MEASURED: dict[str, Callable[[Predictor, str, LabelledVolume], Iterator[Row]]] = {
    "boxes": boxes,
    "background": background,
    "excess": excess,
}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(MEASURED))
    parser.add_argument("data", type=Path)
    parser.add_argument("--scans", type=int, default=12, help="scans of a cohort, the first by name")
    parser.add_argument("--all-sarcoma", action="store_true", help="CT and T1 too, which take half a minute a mask")
    arguments = parser.parse_args()
    measured = MEASURED[arguments.what]
    predictor = Predictor("palpate-tiny", InferenceSettings(device="cpu"))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with mock.patch.object(lesion_state, "out_of_reach", return_value=False):  # what it was without that rule
        for kind, scan in scans(arguments.data, arguments.scans, arguments.all_sarcoma):
            for what, patient, value in measured(predictor, kind, scan):
                found[what][patient].append(value)
    for what, by_patient in found.items():
        values = [value for group in by_patient.values() for value in group]
        interval = bootstrap_interval(list(by_patient.values()))
        text = "" if interval is None else f" [{interval[0]:+.4f}, {interval[1]:+.4f}]"
        print(f"{what}: {np.mean(values):+.4f}{text}, n = {len(values)}")


if __name__ == "__main__":
    main()
