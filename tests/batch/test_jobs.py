"""The list: what is refused before any work, and what a job's key is made of."""

import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.batch.jobs import FileStats, Job, ScanSource, read_jobs
from palpate.errors import BatchError, PromptError
from palpate.prompts import Box, Click, InitialMask
from palpate.volume import Grid

HEADER = "scan,prompts,output\n"
ROW = 'a.nii.gz,"click=1,2,3",a_mask.nii.gz\n'
GRID = Grid((4, 4, 4), np.eye(4))


def listing(folder: Path, text: str | bytes) -> Path:
    path = folder / "jobs.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def only(folder: Path, text: str) -> Job:
    (job,) = read_jobs(listing(folder, text))
    return job


def test_a_list(tmp_path: Path) -> None:
    """Columns in any order, paths relative to the list's folder or not, optional cells empty or cut off."""
    (tmp_path / "out").mkdir()
    text = (
        "output,series,scan,prompts,probability\n"
        f'out/a.nii.gz,,a.nii.gz,"click=1,2,3; not=0,0,0",\n'
        f"out/b.nrrd,3,{tmp_path}/series, p/b.json ,out/b_p.nii\n"
        f'out/c.mha,,c.mha,"box=0,0,0,2,2,2"\n'
    )
    a, b, c = read_jobs(listing(tmp_path, text))
    assert a == Job(
        2, ScanSource(tmp_path / "a.nii.gz", None), "click=1,2,3; not=0,0,0", tmp_path, tmp_path / "out/a.nii.gz", None
    )
    assert (b.row, b.source) == (3, ScanSource(tmp_path / "series", "3"))
    assert b.prompt_file == tmp_path / "p" / "b.json"
    assert b.outputs == (tmp_path / "out/b.nrrd", tmp_path / "out/b_p.nii")
    assert a.read_prompts(GRID) == [Click((1, 2, 3)), Click((0, 0, 0), positive=False)]
    assert c.read_prompts(GRID) == [Box((0, 0, 0), (2, 2, 2))]


def test_a_box_bounds_the_mask_unless_the_list_is_of_hints(tmp_path: Path) -> None:
    """Only where a box does is a job another one than it was before boxes bounded masks."""
    (tmp_path / "b.json").write_text('{"version": 1, "prompts": [{"kind": "box", "first": [0,0,0], "last": [2,2,2]}]}')
    tight, loose = Box((0, 0, 0), (2, 2, 2)), Box((0, 0, 0), (2, 2, 2), loose=True)
    rows = (
        'a.nii.gz,"box=0,0,0,2,2,2",a.mha\n',
        "a.nii.gz,b.json,b.mha\n",
        'a.nii.gz,"loose-box=0,0,0,2,2,2",c.mha\n',
        'a.nii.gz,"box=0,0,1,2,2,1",d.mha\n',
        'a.nii.gz,"click=1,1,1",e.mha\n',
        "a.nii.gz,gone.json,f.mha\n",
    )
    path = listing(tmp_path, HEADER + "".join(rows))
    as_bounds, as_hints = read_jobs(path), read_jobs(path, loose_boxes=True)
    assert [job.read_prompts(GRID) for job in as_bounds[:3]] == [[tight], [tight], [loose]]
    assert [job.read_prompts(GRID) for job in as_hints[:3]] == [[loose]] * 3
    same = [a.key("m", FileStats()) == b.key("m", FileStats()) for a, b in zip(as_bounds, as_hints, strict=True)]
    assert same == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "click=1,1,1; lasso=z=1:0,0:3,0:3,3",
        "click=1,1,1; background=3,3,3",
        "click=1,1,1; lasso=background:z=1:0,0:3,0:3,3",
    ],
)
def test_lists_without_boxes_have_the_keys_of_the_version_before(tmp_path: Path, text: str) -> None:
    job = only(tmp_path, HEADER + f'a.nii.gz,"{text}",a.mha\n')
    content = {
        "scan": ("a.nii.gz", 0, 0, 0),
        "series": None,
        "prompts": job.prompts,
        "named": [],
        "outputs": ["a.mha"],
        "model": "m",
    }
    assert job.key("m", FileStats()) == hashlib.sha256(json.dumps(content).encode()).hexdigest()


def test_a_relative_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_jobs(listing(tmp_path, HEADER + ROW))
    monkeypatch.chdir(tmp_path)
    assert read_jobs("jobs.csv") == whole


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes everywhere, spaces, blank lines, and empty cells in rows and at their ends."""
    text = (
        '\ufeff"scan", prompts,output ,, \r\n\r\n"a,b.nii.gz", "click=1,2,3"," ä.nii.gz",,,\r\n,,\r\n'
        '"c.nii",p.JSON,"c ""x"".nii"'
    )
    first, second = read_jobs(listing(tmp_path, text))
    assert (first.row, first.source.scan.name, first.output.name) == (3, "a,b.nii.gz", "ä.nii.gz")
    assert (second.row, second.prompts, second.output.name) == (5, "p.JSON", 'c "x".nii')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header is ''; it needs the columns scan,prompts,output"),
        ("scan;prompts;output\n", "the header is 'scan;prompts;output'; it needs .* separated by commas"),
        ("scan,output\na,b\n", "it needs the columns scan,prompts,output"),
        (
            "scan,prompts,output,note,probabilty\n",
            r"unknown columns 'note', 'probabilty'; a list has scan,.* and maybe",
        ),
        ("scan,prompts,output,scan\n", "a column twice"),
        (HEADER, r"jobs\.csv: lists no job; give rows of scan,prompts,output"),
        (HEADER + "\n,,\n", "lists no job"),
        (HEADER + "a.nii.gz,click=1,2,3,m.nii.gz\n", 'row 2: 5 cells, but 3 columns; put .* as "click=120,88,45"'),
        (HEADER + ROW + 'b.nii,"click=1,2,3,m.nii\nc.nii,p.json,c.nii', "row 3: not a CSV .unexpected end of data."),
        (HEADER + ROW + 'b.nii,"click=1,2,3"x,m.nii\n', "row 3: not a CSV"),
        (HEADER + '"a\nb.nii","click=1,2,3",m.nii\n', "row 3: a cell with a line break; check its quotes"),
        (HEADER.encode() + b"\xe4.nii,p.json,m.nii\n", r"jobs\.csv: not UTF-8 .*; save it again as CSV in UTF-8"),
        (HEADER.encode("utf-16"), "not UTF-8"),
        (HEADER + ",p.json,m.nii\n", "nothing was done: row 2: no scan"),
        (HEADER + "a.nii,,\n", "row 2: no prompts and no output"),
        (HEADER + "a.nii,p.json\n", "row 2: no output"),
        (HEADER + 'a.nii,"click=1,2",m.nii\n', "row 2: click '1,2': three whole numbers"),
        (
            HEADER + "a.nii,prompts.txt,m.nii\n",
            r"row 2: 'prompts\.txt': a prompt is .* a file of prompts ends in \.json",
        ),
        (HEADER + "a.nii,p.json,m.jpg\n", r"row 2: cannot write .*m\.jpg: unknown ending; use one of \.nii"),
        (HEADER + "a.nii,p.json,none/m.nii\n", "row 2: cannot write .*: the folder .* does not exist; make it first"),
        (HEADER + ROW + ROW, r"row 3: .*a_mask\.nii\.gz is a result of row 2 already; name them apart"),
        (HEADER + ROW + ROW.replace("a_mask", "./a_mask"), "row 3: .* is a result of row 2 already"),
        ("scan,prompts,output,probability\na.nii,p.json,m.nii,m.nii\n", "row 2: .* is a result of row 2 already"),
        (HEADER + "b.nii,p.json,a.nii.gz\n" + ROW, r"row 2: .*a\.nii\.gz would overwrite what row 3 reads"),
        (HEADER + "b.nii,prior=m.nii,m.nii\n", r"row 2: .*m\.nii would overwrite what row 2 reads; name another file"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        read_jobs(listing(tmp_path, text))


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    text = HEADER + "".join(f"a.nii,p.json,{number}.jpg\n" for number in range(7)) + ",p.json,m.nii\n"
    with pytest.raises(
        BatchError, match=r"cannot be used, nothing was done: row 2: .*; row 6: .*; and 3 more$"
    ) as told:
        read_jobs(listing(tmp_path, text))
    assert "row 7" not in str(told.value)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"none\.csv: cannot be read .No such file or directory.; give a CSV of scan"):
        read_jobs(tmp_path / "none.csv")


def test_a_mask_that_a_file_of_prompts_names_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    entries = [{"kind": "prior", "mask": "m.nii"}]
    (tmp_path / "p" / "p.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    with pytest.raises(BatchError, match="would overwrite what row 2 reads"):
        read_jobs(listing(tmp_path, HEADER + "a.nii,p/p.json,p/m.nii\n"))


def test_masks_lie_beside_what_names_them(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones(GRID.shape, np.uint8), np.eye(4)), tmp_path / "m.nii")
    (prior,) = only(tmp_path, HEADER + "a.nii,prior=m.nii,out.nii\n").read_prompts(GRID)
    assert isinstance(prior, InitialMask)
    assert prior.mask.voxels == 64
    (tmp_path / "p").mkdir()
    entries = [{"kind": "prior", "mask": "../m.nii"}]
    (tmp_path / "p" / "p.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    (again,) = only(tmp_path, HEADER + "a.nii,p/p.json,out.nii\n").read_prompts(GRID)
    assert again.places.tolist() == prior.places.tolist()


def test_the_key_follows_what_the_result_depends_on(tmp_path: Path) -> None:
    """Every change of scan, prompts, masks, outputs or model is another key; a second look is not."""
    scan, mask, prompts = tmp_path / "a.nii", tmp_path / "m.nii", tmp_path / "p.json"
    row = "a.nii,p.json,out.nii\n"

    def key(row: str = row, model: str = "one") -> str:
        return only(tmp_path, HEADER + row).key(model, FileStats())

    seen = [key()]  # neither scan nor prompts are there yet
    scan.write_bytes(b"scan")
    seen.append(key())
    prompts.write_text('{"version": 1, "prompts": [{"kind": "prior", "mask": "m.nii"}]}')
    seen.append(key())
    mask.write_bytes(b"mask")
    seen.append(key())
    mask.write_bytes(b"longer")
    seen.append(key())
    os.utime(mask, ns=(0, 0))
    seen.append(key())
    os.utime(scan, ns=(0, 0))
    seen.append(key())
    prompts.write_text('{"version":1, "prompts": [{"kind": "prior", "mask": "m.nii"}]}')
    seen.append(key())
    seen += [key(model="two"), key("a.nii,p.json,other.nii\n"), key('a.nii,"click=1,2,3",out.nii\n')]
    assert len(set(seen)) == len(seen)
    assert key() == seen[7]


def test_a_painted_stroke_in_a_file_counts(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"version": 1, "prompts": [{"kind": "scribble", "file": "painted.npy"}]}')
    job = only(tmp_path, HEADER + "a.nii,p.json,out.nii\n")
    np.save(tmp_path / "painted.npy", [[1, 2, 3]])
    before = job.key("one", FileStats())
    np.save(tmp_path / "painted.npy", [[1, 2, 3], [1, 2, 4]])
    assert job.key("one", FileStats()) != before
    assert tmp_path / "painted.npy" in job.inputs


@pytest.mark.usefixtures("as_ordinary_user")
def test_an_unreadable_file_has_a_key_too(public_folder: Path) -> None:
    """Its job fails; the list does not."""
    (locked := public_folder / "locked").mkdir()
    (locked / "a.nii.gz").write_bytes(b"a")
    (locked / "p.json").write_text('{"version": 1, "prompts": []}')
    locked.chmod(0)
    try:
        long = "x" * 300
        for scan, prompts in (
            (locked / "a.nii.gz", "click=1,2,3"), (long, "click=1,2,3"), ("a.nii.gz", locked / "p.json"),
        ):  # fmt: skip
            job = only(public_folder, HEADER + f'{scan},"{prompts}",m.nii.gz\n')
            assert len(job.key("m", FileStats())) == 64
        with pytest.raises(BatchError, match=r"row 2: cannot write .*: File name too long; choose another place"):
            only(public_folder, HEADER + f'a.nii.gz,"click=1,2,3",{long}.nii.gz\n')
    finally:
        locked.chmod(0o755)


def test_a_file_of_prompts_that_is_none_has_a_key_too(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b"\xff{")
    job = only(tmp_path, HEADER + "a.nii,p.json,out.nii\n")
    assert job.named == ()
    assert len(job.key("one", FileStats())) == 64


def test_the_voxels_of_a_detached_header_count(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("header")
    job = only(tmp_path, HEADER + "a.mhd,p.json,out.mhd\n")
    before = job.key("one", FileStats())
    (tmp_path / "a.raw").write_bytes(b"voxels")
    assert job.key("one", FileStats()) != before


def test_slices_count_and_a_mask_beside_them_does_not(tmp_path: Path) -> None:
    series = tmp_path / "series"
    (series / "below").mkdir(parents=True)
    (series / "below" / "1.dcm").write_bytes(b"slice")
    text = "scan,prompts,output,series\nseries,p.json,series/out.nii.gz,{}\n"
    job = only(tmp_path, text.format(""))
    before = job.key("one", FileStats())
    (series / "out.nii.gz").write_bytes(b"mask")
    assert job.key("one", FileStats()) == before
    assert only(tmp_path, text.format("3")).key("one", FileStats()) != before
    (series / "below" / "2").write_bytes(b"slice")
    assert job.key("one", FileStats()) != before


def test_the_disk_is_asked_once(tmp_path: Path) -> None:
    path, stats = tmp_path / "a.nii", FileStats()
    path.write_bytes(b"scan")
    before = stats[path]
    assert before == (1, 4, path.stat().st_mtime_ns)
    path.unlink()
    assert stats[path] == before
    assert FileStats()[path] == (0, 0, 0)


def test_a_mask_without_a_name_is_an_error(tmp_path: Path) -> None:
    entries = [{"kind": "click", "index": [1, 2, 3]}, {"kind": "prior", "mask": ""}]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    job = only(tmp_path, HEADER + "a.nii,p.json,out.nii\n")
    with pytest.raises(PromptError, match=r"p\.json, prompt 2 \(prior\): mask: empty; give the mask's path"):
        job.read_prompts(Grid((8, 8, 8), np.eye(4)))
    assert job.named == ()
