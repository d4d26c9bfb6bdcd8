"""The page: whole in one file, with everything that was found."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.cohort import Cohort
from palpate.cohort.audit import audit
from palpate.cohort.page import is_own_page, summary, write_page
from palpate.errors import OutputError
from small import small_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("page")
    made = small_cohort(folder, 4)
    made.scans[3].image.write_bytes(b"nothing")
    return Cohort(folder, "phantoms & <others>", made.scans, labels={1: "near"})


def test_the_page_is_whole_and_says_it_all(cohort: Cohort, tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    assert not is_own_page(path)
    write_page(audit(cohort, workers=1), path)
    assert is_own_page(path)
    text = path.read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", text), "nothing is fetched from elsewhere"
    assert "phantoms &amp; &lt;others&gt;" in text, "what a file says is text, not code"
    assert "Not ready: with these errors a training would be wrong" in text
    assert "scan_3.nii.gz" in text
    assert text.count("data:image/png") == 3, "a picture of each scan that can be read"
    assert text.count("data:image/svg+xml") == 5
    assert "Suggested settings" in text
    for title in re.findall(r'<img [^>]*alt="([^"]*)"', text):
        assert title


def test_scans_on_another_scale_stretch_no_chart_and_are_shown(tmp_path: Path) -> None:
    made = small_cohort(tmp_path, 6)
    image = nib.load(made.scans[4].image)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj, np.float32) * 400, image.affine), made.scans[4].image)
    write_page(audit(made, workers=1), tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text()
    assert "Intensities, as stored (without 1 on another scale)" in text
    assert re.search(r"<b>scan_4</b> <span[^>]*>another scale;", text)
    assert "<td>float32</td>" in text


def test_numbers_by_hand(cohort: Cohort) -> None:
    numbers = summary(audit(cohort, workers=1))
    assert (numbers["scans"], numbers["usable"], numbers["patients"]) == (4, 3, 4)
    assert numbers["orientations"] == {"RAS": 1, "LPI": 1, "ASR": 1}
    assert numbers["shapes"]["median"] == [48, 48, 32]
    assert numbers["spacings_mm"]["min"] == [4, 4, 5]
    assert numbers["labels"][1] == {"name": "near", "scans": 3}


def test_a_cohort_with_nothing_to_show(cohort: Cohort, tmp_path: Path) -> None:
    nothing = Cohort(cohort.origin, "phantoms", cohort.scans[3:])
    found = audit(nothing, workers=1)
    write_page(found, tmp_path / "audit.html")
    assert "unreadable" in (tmp_path / "audit.html").read_text()
    assert summary(found)["target_ml"] is None


def test_a_place_that_is_none(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_page(audit(cohort, workers=1), tmp_path / "gone" / "audit.html")
