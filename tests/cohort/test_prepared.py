"""Prepared scans: the same voxels as the files', by box, by voxel and by hash."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from palpate.cohort import LabelledScan, target_of
from palpate.cohort.chunks import ChunkedArray
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import PreparedCohort, PreparedScan
from palpate.errors import CohortError
from palpate.formats import read
from palpate.frame import ClipZScore, CropPercentiles, Frame, Preprocessing
from palpate.prompts import Click
from small import PREPROCESSING, small_cohort


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LabelledScan], PreparedCohort]:
    folder = tmp_path_factory.mktemp("cohort")
    cohort = small_cohort(folder, 3, labels=(1, 2, 5))
    return list(cohort.scans), prepare(cohort, folder / "prepared", workers=1)


def scans(prepared: PreparedCohort, values: tuple[int, ...] = ()) -> list[PreparedScan]:
    return [prepared.scan(entry, values) for entry in prepared.index.scans]


def test_voxels_come_back_as_they_were(made: tuple[list[LabelledScan], PreparedCohort]) -> None:
    files, prepared = made
    for file, scan in zip(files, scans(prepared), strict=True):
        volume, label = file.load()
        loaded = scan.load()
        assert (loaded.name, loaded.patient) == (file.name, file.patient)
        assert np.array_equal(loaded.volume.array, volume.array)
        assert np.array_equal(loaded.volume.affine, volume.affine)
        assert np.array_equal(loaded.target, label.array > 0)
        box = (slice(3, 40), slice(0, 48), slice(10, 11))
        assert np.array_equal(scan.image[box], volume.array[box])
        assert np.array_equal(scan.target[box], label.array[box] > 0)


@pytest.mark.parametrize("values", [(), (2,), (1, 5), (5, 1), (7,)])
def test_target_voxels_are_all_there_once(
    made: tuple[list[LabelledScan], PreparedCohort], values: tuple[int, ...]
) -> None:
    files, prepared = made
    file, scan = files[0], scans(prepared, values)[0]
    truth = target_of(file.load()[1].array, values)
    listed = [scan.target_voxel(number) for number in range(scan.target_voxels)]
    assert set(listed) == {tuple(place) for place in np.argwhere(truth).tolist()}
    assert len(set(listed)) == len(listed)
    with pytest.raises(IndexError):
        scan.target_voxel(scan.target_voxels)


@pytest.mark.parametrize("normalisation", [CropPercentiles(), ClipZScore(low=-50, high=120, mean=20, std=40)])
@pytest.mark.parametrize("spacing", [(1.3, 2.1, 0.9), (6.0, 6.0, 9.0)])
def test_a_training_crop_is_the_inference_crop(
    made: tuple[list[LabelledScan], PreparedCohort],
    normalisation: CropPercentiles | ClipZScore,
    spacing: tuple[float, float, float],
) -> None:
    """Equal tensors, on oblique, flipped and anisotropic scans, in the middle and over the border."""
    files, prepared = made
    preprocessing = Preprocessing(crop=(24, 32, 40), spacing=spacing, normalisation=normalisation)
    for file, scan in zip(files, scans(prepared), strict=True):
        volume = read(file.image)
        for place in ((24, 20, 16), (1, 46, 30), scan.target_voxel(0)):
            inference = Frame.around(volume.grid, [Click(place)], preprocessing)
            training = Frame.centred(scan.grid, place, preprocessing)
            assert np.array_equal(inference.to_scan, training.to_scan)
            ours = training.image(scan.image, normalisation)
            assert ours.equal(inference.image(volume.array, normalisation))
            assert ours.abs().sum() > 0


def test_a_crop_reads_only_what_it_touches(
    made: tuple[list[LabelledScan], PreparedCohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, prepared = made
    scan, read_boxes = scans(prepared)[0], []
    whole = ChunkedArray.__getitem__

    def watched(self: ChunkedArray, box: tuple[slice, ...]) -> np.ndarray:
        read_boxes.append(box)
        return whole(self, box)

    monkeypatch.setattr(ChunkedArray, "__getitem__", watched)
    frame = Frame.centred(scan.grid, (24, 24, 16), PREPROCESSING)  # 64 mm of a 192 mm scan
    frame.extract(scan.image)
    assert len(read_boxes) == 1
    assert all(part.stop - part.start < n for part, n in zip(read_boxes[0], scan.grid.shape, strict=True))


def test_arrays_open_again_in_another_process(made: tuple[list[LabelledScan], PreparedCohort]) -> None:
    scan = scans(made[1])[0]
    box = (slice(0, 2),) * 3
    before = scan.image[box]
    assert np.array_equal(pickle.loads(pickle.dumps(scan.image))[box], before)


def test_a_cohort_of_version_0_1_0_is_read(made: tuple[list[LabelledScan], PreparedCohort], tmp_path: Path) -> None:
    """It called a scan's subset its part."""
    content = json.loads((made[1].folder / "cohort.json").read_text())
    for number, entry in enumerate(content["scans"]):
        del entry["subset"]
        entry["part"] = (None, "train", "test")[number]
    (tmp_path / "cohort.json").write_text(json.dumps(content))
    assert [entry.subset for entry in PreparedCohort.open(tmp_path).index.scans] == [None, "train", "test"]


def test_what_is_missing_or_damaged(made: tuple[list[LabelledScan], PreparedCohort], tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"no prepared cohort here \(cohort\.json is missing\); run `palpate prepare"):
        PreparedCohort.open(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(made[1].folder, folder)
    prepared = PreparedCohort.open(folder)
    entry = prepared.index.scans[0]
    (folder / "scans" / entry.key / "image.b2nd").write_bytes(b"nothing")
    with pytest.raises(CohortError, match=r"image\.b2nd: cannot be read .*run `palpate prepare` again"):
        prepared.scan(entry).load()
    (folder / "scans" / entry.key / "scan.json").unlink()
    with pytest.raises(CohortError, match=r"the prepared scan scan_0 is damaged or gone"):
        prepared.scan(entry)
    text = (folder / "cohort.json").read_text()
    (folder / "cohort.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(CohortError, match=r"format 99, this program reads 1"):
        PreparedCohort.open(folder)
    (folder / "cohort.json").write_text(text[:50])
    with pytest.raises(CohortError, match=r"cohort\.json: damaged"):
        PreparedCohort.open(folder)
