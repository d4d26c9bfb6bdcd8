"""Runs from a preset with changes, or from a folder to resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..bundle import frozen_sha256
from ..cohort import PaperSplit
from ..cohort.sampling import DRAWING
from ..cohort.split import FOLDS
from ..errors import ModelError, SettingsError
from ..files import writing
from .preset import Preset, explained
from .run import Run
from .settings import Settings, begin, starting_bundle


@dataclass(frozen=True)
class Changes:
    """Changes of a preset; None leaves a setting as it is. Names are the preset's and its recipe's.

    `interactive` turns the whole preset into its form with every prompt (`Preset.as_interactive`), `automatic` into the
    one without any (`Preset.as_automatic`).
    """

    init: str | None = None
    tuning: str | None = None
    network: str | None = None
    depth: int | None = None
    interactive: bool = False
    automatic: bool = False
    fold: int | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    precision: str | None = None
    checkpointing: bool | None = None
    weights_dtype: str | None = None
    num_validations: int | None = None
    seed: int | None = None

    def applied(self, preset: Preset) -> Preset:
        """The preset with the changes.

        Raises:
            SettingsError: a value that does not fit.
        """
        wanted: dict[str, Any] = {name: value for name, value in asdict(self).items() if value is not None}
        own: dict[str, Any] = {
            name: wanted.pop(name) for name in ("init", "tuning", "network", "depth") if name in wanted
        }
        interactive, automatic, fold = wanted.pop("interactive"), wanted.pop("automatic"), wanted.pop("fold", None)
        if interactive and automatic:
            raise SettingsError("--interactive takes every prompt and --automatic takes none; choose one of the two")
        if fold is not None:
            if not isinstance(preset.split, PaperSplit):
                raise SettingsError(f"preset {preset.name} has no folds; --fold is for the paper's four")
            if fold not in FOLDS:
                raise SettingsError(
                    f"--fold {fold}: the paper has the folds {FOLDS[0]} to {FOLDS[-1]}; name one of them"
                )
            own["split"] = {"paper": preset.split.paper, "fold": fold}
        try:
            changed = Preset.model_validate(preset.model_dump() | own)
        except ValidationError as error:
            raise SettingsError(explained(error)) from error
        if self.network is not None and changed.init != "none":
            raise SettingsError(
                f"--network {self.network} is for a start from nothing; the size here is {changed.init}'s"
            )
        if interactive:
            changed = changed.as_interactive()
        return (changed.as_automatic() if automatic else changed).with_recipe(**wanted)


def new(
    prepared: Sequence[Path],
    preset: str,
    changes: Changes,
    out: Path | None,
    shares: Sequence[float] | None,
    accelerator: Any,  # noqa: ANN401 - accelerate has no types
    workers: int,
    notify: Callable[[str], None],
    test: bool = True,
) -> Run:
    """A new run; `out` None: one that leaves nothing, for a dry run.

    Raises:
        SettingsError, CohortError, ModelError, OutputError: see `settings.begin`.
    """
    folder = Path("dry-run") if out is None else out
    processes = accelerator.num_processes
    settings, bundle = begin(prepared, changes.applied(Preset.load(preset)), out, shares, processes, test)
    for change in bundle.provenance.changes:
        notify(f"{settings.preset.init}: {change}")
    run = Run(settings, bundle, folder, accelerator, workers, notify)
    accelerator.wait_for_everyone()  # every process has seen that the folder is new before one makes it
    if out is not None and run.main:
        with writing(out, "choose another place", action="make the folder"):
            out.mkdir(parents=True, exist_ok=True)
        settings.write(out)
    return run


def resumed(
    folder: Path,
    accelerator: Any,  # noqa: ANN401 - accelerate has no types
    workers: int,
    notify: Callable[[str], None],
    test: bool | None = None,
) -> Run:
    """The run in a folder, at its newest state.

    Args:
        folder: the run's.
        accelerator: of accelerate.
        workers: loader processes.
        notify: called with sentences for the user.
        test: whether the test patients are evaluated when it ends, kept from now on; None: as it was begun.

    Raises:
        SettingsError: no run there, or a damaged state.
        CohortError: a cohort that changed since.
        ModelError: the model that it started from is gone or another.
    """
    settings = Settings.read(folder)
    if test is not None:
        settings = settings.model_copy(update={"test": test})
    bundle = starting_bundle(settings.preset)
    if frozen_sha256(bundle.network.state_dict(), bundle.network.config) != settings.base_sha256:
        raise ModelError(f"{settings.preset.init}: not the model that the training in {folder} was started from")
    if settings.drawing != DRAWING:
        notify(
            f"{folder}: was begun when crops were drawn by version {settings.drawing}; they are drawn by version "
            f"{DRAWING} from here on: padding is outside the scan, and constant air is not pasted beside it. "
            "Validation makes masks by the newest rules too"
        )
    run = Run(settings, bundle, folder, accelerator, workers, notify)
    if not run.restore():
        notify(f"{folder}: no state was saved yet; starting from the beginning")
    if test is not None and run.main:
        settings.write(folder)
    return run
