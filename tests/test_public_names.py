"""The public names: few, and each on purpose."""

import importlib.metadata

import palpate

NAMES = {
    "BatchError", "Box", "Bundle", "CancelledError", "Click", "CohortError", "DeviceError", "FormatError",
    "GeometryError", "GeometryWarning", "Grid", "InferenceSettings", "InitialMask", "Lasso", "Lesion", "Mask",
    "Measurements", "ModelError", "OutputError", "PalpateError", "PalpateWarning", "Patch", "Postprocessing",
    "Prediction", "Predictor",
    "Probability", "PromptError", "Proposal", "Proposer", "ScanError",
    "Scribble", "SeriesError", "Session", "SessionError", "SettingsError", "Volume", "__version__",
    "import_foreign", "load", "measure_lesion", "read", "write",
}  # fmt: skip


def test_names_are_pinned() -> None:
    assert set(palpate.__all__) == NAMES
    assert sorted(palpate.__all__, key=str) == sorted(NAMES)
    assert dir(palpate) == sorted(NAMES)


def test_each_can_be_had() -> None:
    for name in NAMES:
        assert getattr(palpate, name) is not None


def test_no_other_can() -> None:
    assert not hasattr(palpate, "utils")


def test_version_is_the_packages() -> None:
    assert palpate.__version__ == importlib.metadata.version("palpate")


def test_errors_form_one_tree() -> None:
    from palpate import errors

    for name in (n for n in NAMES if n.endswith("Error")):
        assert issubclass(getattr(errors, name), errors.PalpateError)
