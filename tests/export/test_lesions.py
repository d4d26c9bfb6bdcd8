"""What a session gives away: label maps, masks, what is known of each lesion; whole, or not at all."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from palpate import __version__
from palpate.errors import OutputError, SessionError
from palpate.export import ExportProvenance, LesionExport, identify_scan
from palpate.formats import read, write
from palpate.masks import Mask
from palpate.prompt_file import read_prompts
from palpate.prompts import Click, InitialMask, Lasso, Prompt, Scribble
from palpate.session import Session
from palpate.volume import Volume
from small import noise_scan, quick_predictor

SCAN = noise_scan()


def block(first: tuple[int, int, int], edge: int = 3) -> Mask:
    return Mask(np.ones((edge, edge, edge), bool), first, SCAN.grid)


@pytest.fixture
def session() -> Session:
    """Two overlapping proposals, one of them accepted, and a lesion under prompts."""
    session = Session(quick_predictor(), SCAN)
    session.add("segment 8", block((2, 2, 2)), score=0.25)
    session.add("segment 7", block((4, 4, 4)), score=0.5)
    session.accept(2)
    session.add("Læsion/../3")
    session.add_prompts(3, [Click((11, 10, 5)), Scribble(np.array([[12, 10, 5], [12, 11, 5]]), False)])
    return session


def listing(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nii", "labels.nrrd", "labels.mha", "labels.mhd"])
def test_a_label_map_on_the_scans_grid(session: Session, tmp_path: Path, name: str) -> None:
    made = session.export(tmp_path / name, overlap="earlier")
    assert made.files == (tmp_path / name, tmp_path / "labels.lesions.json")
    labels = read(tmp_path / name)
    assert labels.array.dtype == np.uint8
    assert labels.grid.same_as(SCAN.grid, 1e-3)
    assert np.array_equal(labels.array, session.label_map("earlier").full())
    assert set(np.unique(labels.array)) == {0, 1, 2, 3}
    left = {n: int(np.count_nonzero(session.mask(n).full() & (labels.array == n))) for n in (2, 3)}
    expected = [(n, session.mask(n).voxels - left[n], session.mask(n).voxels) for n in (2, 3)]
    assert [(loss.value, loss.lost, loss.voxels) for loss in made.losses] == expected
    assert expected[0] == (2, 1, 27)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {name, "labels.lesions.json"} | ({"labels.zraw"} if name.endswith("mhd") else set())
    )


def test_what_is_known_of_each_lesion(session: Session, tmp_path: Path) -> None:
    session.export(tmp_path / "out", overlap="earlier")
    said = listing(tmp_path / "out" / "lesions.json")
    assert (said["version"], said["palpate"], said["labels"], said["overlap"]) == (
        2, __version__, "labels.nii.gz", "earlier",
    )  # fmt: skip
    assert said["scan"] == session.scan.model_dump(mode="json")
    model = {"sha256": session.predictor.runtime.sha256(), "budget": None, "precision": "float32", "rules": 2}
    assert said["model"] == {"name": "small", **model}
    first, second, third = said["lesions"]
    assert (first["number"], first["name"], first["status"], first["score"]) == (1, "segment 8", "proposed", 0.25)
    assert (first["label"], first["voxels"], first["label_voxels"]) == (1, 27, 27)
    assert first["volume_ml"] == pytest.approx(27 * 36 / 1000)
    assert first["longest"]["mm"] == pytest.approx(9 * np.sqrt(2), abs=1e-3)
    assert first["slice"] == {"axis": 2, "index": 2}
    ends = SCAN.grid.to_index(first["longest"]["ends"])
    assert {tuple(np.round(end, 2)) for end in ends} <= {(x, y, 2.0) for x in (1.5, 4.5) for y in (1.5, 4.5)}
    assert first["perpendicular"]["mm"] == pytest.approx(9 * np.sqrt(2), abs=1e-3)
    assert first["prompts"] == []
    assert first["start"] is True
    assert (second["status"], second["label_voxels"]) == ("accepted", 26), "the blocks share one voxel"
    assert third["prompts"] == [
        {"kind": "click", "index": [11, 10, 5], "positive": True},
        {"kind": "scribble", "voxels": [[12, 10, 5], [12, 11, 5]], "positive": False},
    ]
    assert third["prompt_numbers"] == [1, 2]
    labels = read(tmp_path / "out" / "labels.nii.gz").array
    assert [int((labels == each["label"]).sum()) for each in said["lesions"]] == [
        each["label_voxels"] for each in said["lesions"]
    ]


def test_lesions_of_no_session_are_exported_the_same(session: Session, tmp_path: Path) -> None:
    """From a scan, records and provenance alone, as a server or a report has them."""
    session.export(tmp_path / "session", overlap="earlier")
    records = [session.record(lesion.number) for lesion in session.lesions]
    provenance = ExportProvenance("a report", identify_scan(SCAN), {"name": "by hand"})
    made = LesionExport(tmp_path / "alone", SCAN, overlap="earlier").write(records, provenance)
    assert made.files == (tmp_path / "alone" / "labels.nii.gz", tmp_path / "alone" / "lesions.json")
    assert made.losses == session.label_map("earlier").losses
    first, second = (listing(tmp_path / name / "lesions.json") for name in ("session", "alone"))
    assert second["lesions"] == first["lesions"]
    assert second["scan"] == first["scan"]
    assert (second["session"], second["model"]) == ("a report", {"name": "by hand"})
    assert np.array_equal(read(made.files[0]).array, read(tmp_path / "session" / "labels.nii.gz").array)
    other = ExportProvenance("another report", provenance.scan, provenance.model)
    with pytest.raises(OutputError, match="is not of this session's last export"):
        LesionExport(tmp_path / "alone", SCAN).write(records, other)
    with pytest.raises(SessionError, match="there is no lesion to export"):
        LesionExport(tmp_path / "none", SCAN).write([], provenance)
    assert not (tmp_path / "none").exists()


def test_a_mask_a_lesion_as_it_is(session: Session, tmp_path: Path) -> None:
    made = session.export(tmp_path / "out", separate=True, ending=".nrrd")
    names = ["01-segment-8.nrrd", "02-segment-7.nrrd", "03-Læsion-3.nrrd"]
    assert made.losses == ()
    assert [path.name for path in made.files] == [*names, "lesions.json"]
    for number, name in enumerate(names, start=1):
        assert np.array_equal(read(tmp_path / "out" / name).array, session.mask(number).full())
    said = listing(tmp_path / "out" / "lesions.json")
    assert (said["labels"], said["overlap"]) == (None, None)
    assert [each["file"] for each in said["lesions"]] == names
    assert "label" not in said["lesions"][0]


def test_an_empty_lesion_has_no_diameters(tmp_path: Path) -> None:
    session = Session(quick_predictor(), SCAN)
    session.add("nothing")
    session.export(tmp_path / "out")
    (first,) = listing(tmp_path / "out" / "lesions.json")["lesions"]
    assert (first["volume_ml"], first["longest"], first["slice"]) == (0.0, None, None)


@pytest.mark.parametrize(("name", "beginning"), [("out", "out/"), ("labels.nii.gz", "labels.")])
def test_prompts_are_listed_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, beginning: str) -> None:
    """What the listing says of a lesion is a file of prompts; masks and long strokes lie beside it."""
    monkeypatch.setattr("palpate.prompt_file.LONG", 2)
    session = Session(quick_predictor(), SCAN)
    session.add("all of it")
    lasso = Lasso(2, 5, np.array([[9.5, 8.5], [12.5, 8.5], [11.0, 12.5]]))
    short, long = (
        Scribble(np.array([[5, 5, 5], [5, 6, 5]])),
        Scribble(np.array([[2, 3, 5], [2, 4, 5], [2, 5, 5]]), False),
    )
    given: list[Prompt] = [InitialMask(block((4, 4, 4))), lasso, short, long]
    session.add_prompts(1, given)
    session.remove_prompt(1, 2)
    session.add_prompt(1, lasso)
    session.export(tmp_path / name)
    beside = f"{tmp_path}/{beginning}"
    said = listing(Path(f"{beside}lesions.json"))
    (told,) = said["lesions"]
    assert told["prompt_numbers"] == [1, 3, 4, 5]
    mask, stroke = (Path(f"{beside}prompt-{file}").name for file in ("1.nii.gz", "4.npy"))
    assert told["prompts"] == [
        {"kind": "prior", "mask": mask},
        {"kind": "scribble", "voxels": [[5, 5, 5], [5, 6, 5]], "positive": True},
        {"kind": "scribble", "file": stroke, "positive": False},
        {"kind": "lasso", "axis": 2, "slice": 5, "outline": lasso.outline.tolist(), "positive": True},
    ]
    assert {mask, stroke} < set(said["files"])
    asked = Path(f"{beside}asked.json")
    asked.write_text(json.dumps({"version": 1, "prompts": told["prompts"]}))
    predictor = quick_predictor()
    predictor.set_volume(SCAN)
    again = predictor.predict(read_prompts(asked, SCAN.grid)).mask.full()
    assert np.array_equal(again, session.mask(1).full())
    session.clear(1)
    session.export(tmp_path / name)
    assert not Path(f"{beside}prompt-1.nii.gz").exists()
    assert not Path(f"{beside}prompt-4.npy").exists()


def test_exporting_again_leaves_nothing_stale_and_touches_nothing_else(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "out"
    session.export(out, separate=True)
    (out / "notes.txt").write_text("mine")
    (out / "other.nii.gz").write_text("mine too")
    session.remove(1)
    session.rename(2, "renamed")
    session.export(out, separate=True)
    assert {path.name for path in out.iterdir()} == {
        "02-renamed.nii.gz", "03-Læsion-3.nii.gz", "lesions.json", "notes.txt", "other.nii.gz",
    }  # fmt: skip
    (out / "02-renamed.nii.gz").write_text("mended by hand")
    said = listing(out / "lesions.json")
    said["files"] |= {"../other.nii.gz": "", "other.nii.gz": "", "notes.txt": 3}
    (out / "lesions.json").write_text(json.dumps(said))
    session.export(out, accepted_only=True)
    assert {path.name for path in out.iterdir()} == {
        "02-renamed.nii.gz", "labels.nii.gz", "lesions.json", "notes.txt", "other.nii.gz",
    }, "what was changed since, or only named, is not ours to take away"  # fmt: skip
    assert [each["number"] for each in listing(out / "lesions.json")["lesions"]] == [2]
    assert set(np.unique(read(out / "labels.nii.gz").array)) == {0, 2}


def test_a_label_map_that_was_named_stays_beside_another(session: Session, tmp_path: Path) -> None:
    """Only prompts' files go, which nobody named."""
    session.add_prompt(3, InitialMask(block((9, 9, 4))))
    session.export(tmp_path / "a.nii.gz")
    (pointed,) = tmp_path.glob("a.prompt-*")
    session.clear(3)
    assert session.export(tmp_path / "a.mhd").files[0] == tmp_path / "a.mhd"
    assert not pointed.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "a.mhd", "a.zraw", "a.lesions.json"}


def test_a_users_own_file_stays(session: Session, tmp_path: Path) -> None:
    """A folder was named, not that file: one drawn by hand, or mended since it was written, is not replaced."""
    (out := tmp_path / "out").mkdir()
    (out / "labels.nii.gz").write_text("drawn by hand")
    with pytest.raises(OutputError, match=r"labels\.nii\.gz: is there already, .* choose another folder, or move it"):
        session.export(out)
    assert [path.name for path in out.iterdir()] == ["labels.nii.gz"]
    (out / "labels.nii.gz").unlink()
    session.export(out)
    session.export(out)
    (out / "labels.nii.gz").write_text("mended by hand")
    with pytest.raises(OutputError, match="is not what this session's last export wrote"):
        session.export(out)
    assert (out / "labels.nii.gz").read_text() == "mended by hand"


@pytest.mark.parametrize("separate", [True, False])
def test_another_sessions_masks_are_left_alone(session: Session, tmp_path: Path, separate: bool) -> None:
    """Of the same scan too: two readers, one folder."""
    out = tmp_path / "out"
    session.export(out, separate=True)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = Session(quick_predictor(), SCAN)
    other.add("theirs", block((2, 2, 2)))
    with pytest.raises(
        OutputError, match=r"out: its lesions\.json is not of this session's last export, .*choose another"
    ):
        other.export(out, separate=separate)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for damaged in ("[1]", "{", "null", '{"version": 1, "lesions": []}', f'{{"session": "{other.fingerprint}"}}'):
        (out / "lesions.json").write_text(damaged)
        with pytest.raises(OutputError, match="is not of this session's last export"):
            other.export(out, separate=separate)
    assert len(list(out.iterdir())) == len(before)


def test_a_session_on_the_disk_knows_its_last_export_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Session(quick_predictor(), SCAN, tmp_path / name) as session:
            session.add(name, block((2, 2, 2)))
    (tmp_path / "one").rename(tmp_path / "moved")
    for name in ("first", "second"):
        with Session.open(tmp_path / "moved", quick_predictor(), SCAN) as session:
            session.rename(1, name)
            session.export(tmp_path / "out", separate=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"01-second.nii.gz", "lesions.json"}
    with (
        Session.open(tmp_path / "two", quick_predictor(), SCAN, read_only=True) as session,
        pytest.raises(OutputError, match="not of this session's last export"),
    ):
        session.export(tmp_path / "out", separate=True)


def test_sessions_begun_in_the_same_second_are_two(tmp_path: Path) -> None:
    readers = [Session(quick_predictor(), SCAN, tmp_path / name) for name in ("one", "two")]
    for reader in readers:
        reader.add("tumour", block((2, 2, 2)))
    assert readers[0].fingerprint != readers[1].fingerprint
    readers[0].export(tmp_path / "out", separate=True)
    with pytest.raises(OutputError, match="not of this session's last export"):
        readers[1].export(tmp_path / "out", separate=True)
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}.nii.gz", f"{'n' * 246}.nii.gz"])
def test_a_place_that_cannot_be_read_is_named(session: Session, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"cannot (write|make) .*File name too long"):
        session.export(tmp_path / name)
    with pytest.raises(OutputError, match=r"cannot write .*File name too long"):
        session.export_cohort(tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_a_label_map_does_not_replace_the_scan(tmp_path: Path) -> None:
    write(SCAN, tmp_path / "scan.nii.gz")
    before = (tmp_path / "scan.nii.gz").read_bytes()
    session = Session(quick_predictor(), read(tmp_path / "scan.nii.gz"))
    session.add(initial_mask=block((2, 2, 2)))
    with pytest.raises(OutputError, match=r"scan\.nii\.gz: the scan itself was read from it, and would be lost"):
        session.export(tmp_path / "scan.nii.gz")
    assert (tmp_path / "scan.nii.gz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_all_or_nothing(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.export(tmp_path / "old", separate=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    session.rename(1, "another")
    written: list[Path] = []

    def failing(patch: Any, path: Path) -> None:
        written.append(path)
        if len(written) % 3 == 0:
            raise OSError(28, "No space left on device")
        write(patch, path)

    monkeypatch.setattr("palpate.export.lesions.write", failing)
    for folder in ("old", "new"):
        with pytest.raises(OutputError, match=r"No space left on device; nothing was changed"):
            session.export(tmp_path / folder, separate=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_exported(session: Session, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no overlap rule 'best'"):
        session.export(tmp_path / "out", overlap="best")  # type: ignore[arg-type]
    with pytest.raises(SessionError, match="is one file; name a folder for a mask a lesion"):
        session.export(tmp_path / "m.nii", separate=True)
    with pytest.raises(OutputError, match=r"cannot write '\.png': unknown ending; use one of \.nii"):
        session.export(tmp_path / "out", ending=".png")
    for name in ("m.png", "m.NII.GZ", "m.nii.g"):
        with pytest.raises(OutputError, match=r"m\.\w+(\.\w+)?: ends in none of \.nii, .* For a folder of that name"):
            session.export(tmp_path / name)
    with pytest.raises(OutputError, match=r"cannot make the folder .*nowhere/out: No such file"):
        session.export(tmp_path / "nowhere" / "out")
    session.reopen(2)
    with pytest.raises(SessionError, match="there is no accepted lesion to export; accept one first"):
        session.export(tmp_path / "out", accepted_only=True)
    with pytest.raises(SessionError, match="there is no lesion to export; add one first"):
        Session(quick_predictor(), SCAN).export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_label_map_repeats_the_scans_own_header(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.asarray(SCAN.array), SCAN.affine)
    image.set_qform(SCAN.affine, code=2)
    image.set_sform(SCAN.affine, code=3)
    nib.save(image, tmp_path / "scan.nii.gz")
    session = Session(quick_predictor(), read(tmp_path / "scan.nii.gz"))
    assert session.scan.path == str(tmp_path / "scan.nii.gz")
    session.add(initial_mask=block((2, 2, 2)))
    session.export(tmp_path / "labels.nii.gz")
    made = nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(made.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (2, 3)


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">i2", "int16", "uint16", "int32", "int64", "f2", "f4", "f8"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_scan_is_written_value_by_value(tmp_path: Path, dtype: str, ending: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (5, 4, 3)) if dtype in ("bool", "uint8") else rng.integers(-3000, 3000, (5, 4, 3))
    array = (np.abs(values) if "u" in dtype else values).astype(dtype)
    if array.dtype.kind == "f":
        array = (array / np.array(7, dtype)).astype(dtype)
    write(Volume(array, SCAN.affine), tmp_path / f"scan{ending}")
    back = read(tmp_path / f"scan{ending}").array
    assert np.array_equal(back, array)
    assert back.dtype.itemsize >= array.dtype.itemsize
