"""Every layout is found unaided, and holds the same scans whatever it calls them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest

from palpate.cohort import Cohort
from palpate.cohort.audit import audit
from palpate.cohort.layouts import find_cohort
from palpate.cohort.prepare import prepare
from palpate.errors import CohortError, FormatError
from small import small_cohort

COUNT = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("source"), COUNT, labels=(1, 2))


def copy(path: Path, target: Path) -> None:
    """The file in its new place, packed or not as its new ending asks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name.endswith(".nii"):
        nib.save(nib.load(path), target)
    else:
        shutil.copy(path, target)


def decathlon(source: Cohort, folder: Path) -> None:
    entries = []
    for scan in source.scans:
        copy(scan.image, folder / "imagesTr" / f"{scan.name}.nii.gz")
        copy(scan.label, folder / "labelsTr" / f"{scan.name}.nii.gz")
        entries.append({"image": f"./imagesTr/{scan.name}.nii.gz", "label": f"./labelsTr/{scan.name}.nii.gz"})
    (folder / "imagesTr" / f"._{source.scans[0].name}.nii.gz").write_bytes(b"a Mac was here")
    listing = {"labels": {"0": "background", "1": "near", "2": "far"}, "modality": {"0": "CT"}, "training": entries}
    listing |= {"licence": "CC BY 4.0"}
    (folder / "dataset.json").write_text(json.dumps(listing))


def nnunet(source: Cohort, folder: Path) -> None:
    for scan in source.scans:
        copy(scan.image, folder / "imagesTr" / f"{scan.name}_0000.nii.gz")
        copy(scan.label, folder / "imagesTr" / f"{scan.name}_0001.nii.gz")  # another channel, of whatever
        copy(scan.label, folder / "labelsTr" / f"{scan.name}.nii.gz")
    listing = {
        "channel_names": {"0": "CT", "1": "other"},
        "labels": {"background": 0, "whole": [1, 2], "far": 2},
        "numTraining": COUNT,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(listing))


def kits(source: Cohort, folder: Path) -> None:
    for number, scan in enumerate(source.scans):
        copy(scan.image, folder / f"case_{number:05d}" / "imaging.nii.gz")
        copy(scan.label, folder / f"case_{number:05d}" / "segmentation.nii.gz")


def lits(source: Cohort, folder: Path) -> None:
    for number, scan in enumerate(source.scans):
        copy(scan.image, folder / "batch 1" / f"volume-{number}.nii")
        copy(scan.label, folder / "batch 2" / f"segmentation-{number}.nii")


def folders(source: Cohort, folder: Path) -> None:
    for scan in source.scans:
        copy(scan.image, folder / "Images" / f"{scan.name}.nii.gz")
        copy(scan.label, folder / "masks" / f"{scan.name}.nii")


def listing(source: Cohort, folder: Path) -> None:
    rows = ["image,label,patient"]
    for number, scan in enumerate(source.scans):
        copy(scan.image, folder / str(number) / "ct.nii.gz")
        copy(scan.label, folder / str(number) / "tumour.nii.gz")
        rows.append(f"{number}/ct.nii.gz,{number}/tumour.nii.gz,{scan.patient}")
    (folder / "cohort.csv").write_text("\ufeff" + "\n".join(rows) + "\n\n")


LAYOUTS = {
    "Medical Segmentation Decathlon": (decathlon, ["scan_0", "scan_1", "scan_2"]),
    "nnU-Net v2, channel 0 (CT)": (nnunet, ["scan_0", "scan_1", "scan_2"]),
    "KiTS": (kits, ["case_00000", "case_00001", "case_00002"]),
    "LiTS": (lits, ["volume-0", "volume-1", "volume-2"]),
    "folders Images and masks": (folders, ["scan_0", "scan_1", "scan_2"]),
    "CSV": (listing, ["0_ct", "1_ct", "2_ct"]),
}
Builder = Callable[[Cohort, Path], None]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_each_layout_is_found_and_prepares_to_the_same_content(source: Cohort, tmp_path: Path, layout: str) -> None:
    build, names = LAYOUTS[layout]
    build(source, tmp_path / "cohort")
    found = find_cohort(tmp_path / "cohort")
    assert found.layout == layout
    assert [scan.name for scan in found.scans] == names
    assert found.incomplete == ()
    ours = prepare(found, tmp_path / "ours", workers=1)
    assert ours.sha256 == prepare(source, tmp_path / "theirs", workers=1).sha256


def test_names_of_labels(source: Cohort, tmp_path: Path) -> None:
    decathlon(source, tmp_path / "a")
    nnunet(source, tmp_path / "b")
    assert find_cohort(tmp_path / "a").labels == {1: "near", 2: "far"}
    assert find_cohort(tmp_path / "b").labels == {1: "whole", 2: "whole"}


def test_another_channel(source: Cohort, tmp_path: Path) -> None:
    nnunet(source, tmp_path)
    found = find_cohort(tmp_path, channel=1)
    assert found.layout == "nnU-Net v2, channel 1 (other)"
    assert found.scans[0].image.name == "scan_0_0001.nii.gz"
    with pytest.raises(CohortError, match=r"no channel 2; its channels are \{'0': 'CT', '1': 'other'\}"):
        find_cohort(tmp_path, channel=2)


def test_kits_prefers_the_majority(source: Cohort, tmp_path: Path) -> None:
    kits(source, tmp_path)
    copy(source.scans[0].label, tmp_path / "case_00000" / "aggregated_MAJ_seg.nii.gz")
    assert [s.label.name for s in find_cohort(tmp_path).scans] == ["aggregated_MAJ_seg.nii.gz"] + [
        "segmentation.nii.gz"
    ] * 2


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_missing_halves_are_named(source: Cohort, tmp_path: Path, layout: str) -> None:
    build, names = LAYOUTS[layout]
    build(source, tmp_path)
    whole = find_cohort(tmp_path)
    whole.scans[0].label.unlink()
    whole.scans[1].image.unlink()
    found = find_cohort(tmp_path)
    assert [scan.name for scan in found.scans] == names[2:]
    assert len(found.incomplete) == 2
    assert found.incomplete[0].startswith(f"{names[0]}: ")
    assert "is missing" in found.incomplete[0]
    assert found.incomplete[0].endswith("; add it, or take its half away")
    assert found.incomplete[1].startswith(f"{names[1]}: ")
    whole.scans[2].image.unlink()
    with pytest.raises(CohortError, match="no scan has its label; the first: "):
        find_cohort(tmp_path)


def test_modality_and_licence_are_what_the_layout_says(source: Cohort, tmp_path: Path) -> None:
    for name, build in (("decathlon", decathlon), ("nnunet", nnunet), ("folders", folders)):
        build(source, tmp_path / name)
    assert find_cohort(tmp_path / "decathlon").modality == "CT"
    assert find_cohort(tmp_path / "decathlon").licence == "CC BY 4.0"
    assert find_cohort(tmp_path / "nnunet").licence == ""
    assert find_cohort(tmp_path / "nnunet", channel=1).modality == "other"
    assert find_cohort(tmp_path / "folders").modality == ""
    path = tmp_path / "decathlon" / "dataset.json"
    content = json.loads(path.read_text())
    for modality, expected in (({"0": "FLAIR", "1": "T1w"}, "FLAIR"), ("MRI", "MRI"), ({}, "")):
        path.write_text(json.dumps({**content, "modality": modality}))
        assert find_cohort(tmp_path / "decathlon").modality == expected
        assert find_cohort(tmp_path / "decathlon", modality="PET").modality == "PET", "who says it knows better"


@pytest.mark.parametrize(("build", "name"), [(decathlon, "dataset.json"), (listing, "cohort.csv")])
def test_listed_scans_that_are_not_there_are_one_sentence(
    source: Cohort, tmp_path: Path, build: Builder, name: str
) -> None:
    build(source, tmp_path)
    whole = find_cohort(tmp_path)
    for scan in whole.scans[1:]:
        scan.image.unlink()
        scan.label.unlink()
    gone = ", ".join(scan.name for scan in whole.scans[1:])
    found = find_cohort(tmp_path)
    assert [scan.name for scan in found.scans] == [whole.scans[0].name]
    assert found.incomplete == ()
    assert found.absent.startswith(f"{name}: lists 2 scans that are not there ({gone}); if they should be, add them")
    (issue,) = [one for one in audit(found, workers=1).issues if one.kind == "listed, not there"]
    assert (issue.severity, issue.message) == ("warning", found.absent), "a part of a cohort can be trained on"
    whole.scans[0].image.unlink()
    whole.scans[0].label.unlink()
    with pytest.raises(CohortError, match=f"no scan has its label; the first: {name}: lists 3 scans that are not"):
        find_cohort(tmp_path)


def test_patients(source: Cohort, tmp_path: Path) -> None:
    folders(source, tmp_path)
    assert [s.patient for s in find_cohort(tmp_path).scans] == ["scan_0", "scan_1", "scan_2"]
    assert [s.patient for s in find_cohort(tmp_path, patient=r"_(\d)$").scans] == ["0", "1", "2"]
    assert [s.patient for s in find_cohort(tmp_path, patient=r"^scan").scans] == ["scan"] * 3
    with pytest.raises(CohortError, match=r"finds nothing in the scan's name 'scan_0'"):
        find_cohort(tmp_path, patient="x")
    with pytest.raises(CohortError, match="is no regular expression"):
        find_cohort(tmp_path, patient="(")


def test_a_listing_with_names_patients_and_parts(source: Cohort, tmp_path: Path) -> None:
    a, b, c = source.scans
    path = tmp_path / "mine.csv"
    rows = [f"{a.image},{a.label},p,one,train", f"{b.image},{b.label},p,two,", f"{c.image},{c.label},q,three,test"]
    path.write_text("\n".join(["image,label,patient,name,split", *rows]))
    found = find_cohort(path)
    assert [(s.name, s.patient, s.subset) for s in found.scans] == [
        ("one", "p", "train"),
        ("three", "q", "test"),
        ("two", "p", None),
    ]
    path.write_text("\n".join(["image,label,patient,name,split", rows[0].replace("train", "training")]))
    with pytest.raises(CohortError, match=r"line 2: split 'training' is not one of train, validation, test"):
        find_cohort(path)
    path.write_text("\n".join(["image,label,name", f"{a.image},{a.label},x", f"{b.image},{b.label},x"]))
    with pytest.raises(CohortError, match="two scans are called x"):
        find_cohort(path)
    path.write_text("scan,mask\n1,2")
    with pytest.raises(CohortError, match=r"this one \['scan', 'mask'\]"):
        find_cohort(path)


def test_a_listing_of_another_encoding_is_named(source: Cohort, tmp_path: Path) -> None:
    scan = source.scans[0]
    rows = [f"{scan.image},{scan.label},p,n{number}" for number in range(600)]  # beyond what one read takes in
    path = tmp_path / "mine.csv"
    for many in (rows[:1], rows):
        text = "\n".join(["image,label,patient,name", *many, f"{scan.image},{scan.label},Müller,z"])
        path.write_bytes(text.encode("latin-1"))
        for origin in (path, tmp_path):
            with pytest.raises(FormatError, match=r"mine\.csv: not UTF-8"):
                find_cohort(origin)
        path.write_text(text, encoding="utf-8")
        assert find_cohort(tmp_path).scans[-1].patient == "Müller"


def test_lines_are_counted_as_an_editor_does(source: Cohort, tmp_path: Path) -> None:
    scan = source.scans[0]
    path = tmp_path / "mine.csv"
    path.write_text(f"image,label,split\n{scan.image},{scan.label},train\n\n\n{scan.image},{scan.label},oops\n")
    with pytest.raises(CohortError, match=r"mine\.csv line 5: split 'oops'"):
        find_cohort(path)


def test_two_files_of_one_name_are_not_chosen_between(source: Cohort, tmp_path: Path) -> None:
    for batch in ("x", "y"):
        lits(source, tmp_path / "lits" / batch)
    with pytest.raises(CohortError, match=r"x/batch 1/volume-0\.nii and .*y/batch 1/volume-0\.nii are both 0"):
        find_cohort(tmp_path / "lits")
    folders(source, tmp_path / "pairs")
    nib.save(nib.load(source.scans[0].image), tmp_path / "pairs" / "Images" / "scan_0.nii")
    with pytest.raises(CohortError, match=r"scan_0\.nii and .*scan_0\.nii\.gz are both scan_0"):
        find_cohort(tmp_path / "pairs")


def test_a_pattern_that_finds_nothing_but_air(source: Cohort, tmp_path: Path) -> None:
    folders(source, tmp_path)
    with pytest.raises(CohortError, match=r"'\^\(x\)\?' finds an empty text in the scan's name 'scan_0'"):
        find_cohort(tmp_path, patient="^(x)?")


def test_folders_that_are_no_cohort(source: Cohort, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no such folder or file"):
        find_cohort(tmp_path / "gone")
    with pytest.raises(CohortError, match=r"of no known layout\. Known: dataset\.json .* CSV"):
        find_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(FormatError, match=r"neither the Decathlon's listing nor nnU-Net's"):
        find_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(FormatError, match=r"dataset\.json"):
        find_cohort(tmp_path)
    (tmp_path / "dataset.json").unlink()
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("image,label\n")
    with pytest.raises(CohortError, match=r"several listings \(a\.csv, b\.csv\)"):
        find_cohort(tmp_path)
    with pytest.raises(CohortError, match="neither a folder nor a CSV"):
        find_cohort(source.scans[0].image)


@pytest.mark.parametrize(
    ("name", "scans", "patients", "pattern"),
    [
        ("hippocampus", 200, 200, None),
        ("lung_nodules", 785, 440, r"^(LIDC-IDRI-\d+)"),
        ("sarcoma", 60, 20, r"^STS_\d+"),
    ],
)
def test_real_cohorts(data: Path, name: str, scans: int, patients: int, pattern: str | None) -> None:
    found = find_cohort(data / name, patient=pattern)
    assert found.layout == "Medical Segmentation Decathlon"
    assert (len(found.scans), len({s.patient for s in found.scans})) == (scans, patients)
    assert found.incomplete == ()
