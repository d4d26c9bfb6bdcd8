"""Settings of a training: cohorts, preset, split and the model that it starts from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from .. import __version__
from ..bundle import (
    Bundle,
    Provenance,
    frozen_sha256,
    load,
    with_depth,
    with_extra_heads,
    with_patch_size,
    with_tuning,
    without_prompt_encoder,
)
from ..cohort import SUBSETS, Split, Subset, propose_split
from ..cohort.prepared import PreparedCohort, PreparedScan
from ..cohort.sampling import DRAWING
from ..errors import CohortError, SettingsError
from ..files import HIDDEN, replacing
from ..model import SIZES, Network, NetworkConfig
from .preset import Preset, explained
from .preset_file import with_current_keys, with_one_length

FORMAT = 1


class Settings(BaseModel):
    """All settings of a training that its result depends on, but for the device.

    Attributes:
        format: of the run's folder.
        palpate: the version that started it.
        prepared: folders of prepared cohorts.
        shares: how often each cohort is drawn; None: in proportion to its scans.
        preset: with all changes that options made.
        split: training, validation and test patients.
        cohorts_sha256: content of each prepared cohort.
        base_sha256: the frozen tensors of the model that was started from.
        processes: how many train together: with the batch, they determine the crops of a step.
        test: whether the test patients are evaluated when it ends; version 0.1.0 did not keep it, and meant True.
        drawing: version of how its crops were drawn when it began (`cohort.sampling.DRAWING`); runs that do not keep it
            are of version 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    palpate: str = __version__
    prepared: tuple[str, ...]
    shares: tuple[float, ...] | None = None
    preset: Preset
    split: Split
    cohorts_sha256: tuple[str, ...]
    base_sha256: str
    processes: int = 1
    test: bool = True
    drawing: int = DRAWING

    def write(self, run: Path) -> None:
        """Write `run/settings.json`."""
        with replacing(run / "settings.json") as (staged,):
            staged.write_text(self.model_dump_json(indent=1))

    @classmethod
    def read(cls, run: Path) -> Self:
        """The settings of a run.

        Raises:
            SettingsError: no run in this folder, or one of another version.
        """
        path = run / "settings.json"
        if not path.is_file():
            raise SettingsError(f"{run}: no training was started here (settings.json is missing)")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["preset"] = with_one_length(with_current_keys(content["preset"], str(path)))
            return cls.model_validate({"drawing": 1} | content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = explained(error) if isinstance(error, ValidationError) else repr(error)
            raise SettingsError(f"{path}: damaged, or of another version of palpate: {why}") from error


def cohort_scans(prepared: Sequence[PreparedCohort], preset: Preset) -> list[list[PreparedScan]]:
    """Every scan of each cohort that training or evaluation can use: with some target, or any, if targets are made."""
    cohorts = []
    for cohort in prepared:
        scans = [cohort.scan(entry, preset.target_labels) for entry in cohort.index.scans]
        usable = [s for s in scans if s.target_voxels or preset.targets.possible(False, bool(s.record.labels))]
        cohorts.append(usable)
    return cohorts


def resolve_split(prepared: Sequence[PreparedCohort], preset: Preset) -> Split:
    """The preset's split, else the layout's own, else one by a hash of each patient.

    Raises:
        CohortError: too few patients, a subset without a scan, a patient in two subsets, or a name in two cohorts.
    """
    entries = [entry for cohort in prepared for entry in cohort.index.scans]
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise CohortError(
            f"scan {twice[0]} is in several cohorts; names must differ, since splits and clicks go by them"
        )
    if preset.split is not None:
        split = preset.split if isinstance(preset.split, Split) else preset.split.resolve()
    elif any(entry.subset for entry in entries):
        split = Split(**{subset: tuple(e.name for e in entries if e.subset == subset) for subset in SUBSETS})
    else:
        split = propose_split(entry.patient for entry in entries)
    seen: dict[str, Subset] = {}
    for entry in entries:
        subset = split.subset_of(entry.name, entry.patient)
        if subset is not None and seen.setdefault(entry.patient, subset) != subset:
            raise CohortError(
                f"patient {entry.patient} has scans under {seen[entry.patient]} and under {subset}; "
                "put all scans of a patient in one subset"
            )
    missing = {"train", "validation"} - set(seen.values())
    if missing and seen:
        raise CohortError(
            f"the split has no scan under {' or '.join(sorted(missing))}; name some patients there: those under "
            "validation choose the best weights, and none of them may train"
        )
    if missing:
        names = ", ".join(entry.name for entry in entries[:3])
        raise CohortError(
            f"no scan of this cohort ({names}, ...) falls under {' or '.join(sorted(missing))} of the split; "
            "is it the right preset? Its names must be scans' or patients'"
        )
    return split


def starting_bundle(preset: Preset) -> Bundle:
    """The model that training starts from, with the preset's tuning choice and preprocessing.

    Raises:
        ModelError: it is missing or damaged.
        SettingsError: a tuning choice that leaves random weights frozen; another width of dense prompts or quality;
            a depth that it cannot have; other tokens than a detail path was made for; an automatic model where prompts
            are to be learned.
    """
    if preset.init == "none":
        if preset.tuning != "full":
            raise SettingsError(
                f"without a base nothing may stay frozen: use tuning full (--tune full), not {preset.tuning}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(preset.recipe.seed)
            fresh = Network(_fresh_shape(preset))
        bundle = Bundle(fresh, preset.preprocessing, Provenance(name=preset.network, origin="made from nothing"))
    else:
        bundle = load(preset.init)
    if preset.depth is not None:
        bundle = with_depth(bundle, preset.depth)
    if preset.token_voxels is not None:
        bundle = with_patch_size(bundle, preset.token_voxels, preset.recipe.seed)
    if preset.automatic:
        bundle = without_prompt_encoder(bundle)
    elif bundle.network.config.promptless:
        raise SettingsError(
            f"{preset.init}: an automatic model has no prompt encoder to train; set automatic (--automatic), or start "
            "from a model with one"
        )
    bundle = with_tuning(bundle, preset.tuning, preset.recipe.seed)
    return Bundle(_with_heads(bundle, preset).network, preset.preprocessing, bundle.provenance)


def _with_heads(bundle: Bundle, preset: Preset) -> Bundle:
    """The model with the parts that the preset asks for and it lacks."""
    config = bundle.network.config
    for what, wanted, known in (
        ("dense", preset.dense, config.dense_width),
        ("refiner", preset.refiner, config.refiner_width),
        ("quality", preset.quality, config.quality_width),
    ):
        if wanted and known not in (0, wanted):
            raise SettingsError(
                f"{preset.init}: has {what} of width {known}; set {what} to that, or to 0, not {wanted}"
            )
    return with_extra_heads(
        bundle,
        dense=preset.dense,
        refiner=preset.refiner,
        cues=preset.cues,
        quality=preset.quality,
        seed=preset.recipe.seed,
    )


def _fresh_shape(preset: Preset) -> NetworkConfig:
    """The shape of a network that starts from nothing."""
    of_tokens = {} if preset.token_voxels is None else {"token_voxels": preset.token_voxels}
    without = {"promptless": True, "spare_attention": False} if preset.automatic else {}
    size = SIZES[preset.network]
    try:
        size = size if preset.depth is None else size.first_blocks(preset.depth)
    except ValueError as error:
        raise SettingsError(f"{preset.network}: {error}") from error
    return size.model_copy(update=of_tokens | without)


def begin(
    prepared: Sequence[Path],
    preset: Preset,
    run: Path | None,
    shares: Sequence[float] | None = None,
    processes: int = 1,
    test: bool = True,
) -> tuple[Settings, Bundle]:
    """The settings of a new run in the folder `run`, and the model that it starts from; nothing is written yet.

    Args:
        prepared: the cohorts' folders.
        preset: what is to be done.
        run: its folder; None: a run without one.
        shares: of the cohorts.
        processes: how many train.
        test: whether the test patients are evaluated when it ends.

    Raises:
        SettingsError: a run or anything else lies there already.
        CohortError, ModelError: see the parts.
    """
    if run is not None:
        _check_new(run)
    cohorts = [PreparedCohort.open(folder) for folder in prepared]
    if shares is not None and (len(shares) != len(cohorts) or min(shares) <= 0):
        raise SettingsError(f"shares: one above 0 for each of the {len(cohorts)} cohorts, not {list(shares)}")
    if Path(preset.init).is_file():  # so that it is found again from wherever the training is resumed
        preset = preset.model_copy(update={"init": str(Path(preset.init).resolve())})
    bundle = starting_bundle(preset)
    settings = Settings(
        prepared=tuple(str(cohort.folder.resolve()) for cohort in cohorts),
        shares=None if shares is None else tuple(shares),
        preset=preset,
        split=resolve_split(cohorts, preset),
        cohorts_sha256=tuple(cohort.sha256 for cohort in cohorts),
        base_sha256=frozen_sha256(bundle.network.state_dict(), bundle.network.config),
        processes=processes,
        test=test,
    )
    return settings, bundle


def _check_new(run: Path) -> None:
    if (run / "settings.json").exists():
        raise SettingsError(
            f"{run}: a training was started here; resume it with `palpate train --resume {run}`, or name another folder"
        )
    # What atomic writing left when it was killed is no run yet.
    if run.exists() and (not run.is_dir() or any(not path.name.startswith(HIDDEN) for path in run.iterdir())):
        raise SettingsError(f"{run}: holds other files; name a new folder for the run")
