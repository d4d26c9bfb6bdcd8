"""Packing: types that keep every value, labels that are none, and the key."""

from pathlib import Path

import numpy as np
import pytest

from palpate.cohort.packing import canonical_image, canonical_label, content_key
from palpate.errors import FormatError
from palpate.volume import Grid


def test_canonical_types_keep_every_value() -> None:
    for array, kind in (
        (np.array([[[-1000, 3000]]], np.int32), np.int16),
        (np.array([[[0, 70000]]], np.int32), np.float32),
        (np.array([[[0, 255]]], np.uint8), np.int16),
        (np.array([[[0.5, 1e6]]], np.float64), np.float32),
    ):
        assert canonical_image(array).dtype == kind
        assert np.array_equal(canonical_image(array), array)
    assert canonical_label(np.array([0.0, 2.0]), Path("x")).dtype == np.uint8
    assert canonical_label(np.array([0, 300]), Path("x")).dtype == np.int32


def test_labels_that_are_none() -> None:
    with pytest.raises(FormatError, match=r"l\.nii: a label holds whole numbers, this one fractions"):
        canonical_label(np.array([0.0, 0.5]), Path("l.nii"))
    with pytest.raises(FormatError, match=r"l\.nii: a label's values are 0 and above, this one has -1"):
        canonical_label(np.array([0, -1]), Path("l.nii"))


def test_the_key_is_of_the_content() -> None:
    image, label, grid = np.zeros((2, 3, 4), np.int16), np.zeros((2, 3, 4), np.uint8), Grid((2, 3, 4), np.eye(4))
    key = content_key(image, label, grid)
    moved = np.eye(4)
    moved[0, 3] = 1
    one, labelled = image.copy(), label.copy()
    one[0, 0, 0] = labelled[0, 0, 0] = 1
    assert len({key, content_key(one, label, grid), content_key(image, labelled, grid)}) == 3
    assert content_key(image, label, Grid((2, 3, 4), moved)) != key
    assert content_key(image.copy(), label.copy(), Grid((2, 3, 4), np.diag([1 + 1e-7, 1, 1, 1]))) == key
