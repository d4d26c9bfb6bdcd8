"""Regions merged along their graph, by hand."""

import numpy as np

from palpate.cohort.targets.merging import merged_regions, touching_regions


def test_like_regions_merge_and_unlike_ones_do_not() -> None:
    """Four slabs of values 0, 0.1, 5 and 5.1: two regions stay."""
    regions, values = np.empty((8, 4, 4), np.int32), np.empty((8, 4, 4), np.float32)
    for number, value in enumerate((0.0, 0.1, 5.0, 5.1)):
        regions[2 * number : 2 * number + 2], values[2 * number : 2 * number + 2] = number + 1, value
    merged = merged_regions(regions, values, np.zeros_like(values), 32.0)
    assert merged[0, 0, 0] == merged[2, 0, 0]
    assert merged[4, 0, 0] == merged[6, 0, 0]
    assert merged[0, 0, 0] != merged[4, 0, 0]
    assert set(np.unique(merged)) <= {1, 2, 3, 4}


def test_larger_regions_are_wanted_and_come() -> None:
    rng = np.random.default_rng(0)
    regions = np.arange(1, 513, dtype=np.int32).reshape(8, 8, 8)
    values = rng.random((8, 8, 8)).astype(np.float32)
    counts = [
        len(np.unique(merged_regions(regions, values, np.zeros_like(values), size))) for size in (0.01, 4.0, 1000.0)
    ]
    assert counts[0] > counts[1] > counts[2] == 1


def test_neighbours_share_a_face() -> None:
    regions = np.zeros((3, 3, 3), np.int32)
    regions[0, 0, 0], regions[1, 0, 0], regions[1, 1, 0], regions[2, 2, 2] = 5, 6, 7, 8
    assert touching_regions(regions, 5).tolist() == [6], "7 touches an edge alone, and 0 is none"
    assert touching_regions(regions, 6).tolist() == [5, 7]
