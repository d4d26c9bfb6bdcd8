"""Training crops as a picture."""

from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.example_sheet import example_sheet
from palpate.cohort.sampling import CropSampler
from palpate.cohort.targets import TargetSampling
from palpate.phantom import make_phantom
from small import PREPROCESSING, prepared_scan


def test_two_planes_and_a_title_each() -> None:
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    scan = prepared_scan(made.volume, made.lesion.full(), "case")
    weights = TargetSampling(contours=1, synthetic=1)
    drawn = CropSampler([[scan]], None, PREPROCESSING, Augmentation(), PromptSampling(), targets=weights)
    figure = example_sheet(drawn, 8)
    assert len(figure.axes) == 16
    titles = [text.get_text() for text in figure.texts]
    assert len(titles) == 8
    for number, title in enumerate(titles):
        assert title.startswith(f"{number}  {drawn.kind(number)}, ")
        assert "case" in title
    assert all(len(axes.images) == 1 for axes in figure.axes)
    assert all(axes.lines for axes in figure.axes), "the click"
    outlined = [bool(axes.collections) for axes in figure.axes]
    assert sum(outlined) >= 12
