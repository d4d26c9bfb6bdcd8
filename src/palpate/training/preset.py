"""A preset: a cohort's settings and the recipe of a training on it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..cohort import PaperSplit, Split
from ..cohort.augmentation import Augmentation, PromptSampling
from ..cohort.targets import TargetSampling
from ..errors import SettingsError
from ..files import replacing
from ..frame import Preprocessing
from ..model import CUES, MIN_DEPTH, Cue
from .preset_file import parse, to_yaml
from .recipe import LENGTHS, Recipe, from_nothing

PRESETS = ("kits21", "msd-pancreas", "lits17", "msd-colon")
Tuning = Literal["spatial", "frozen", "full", "bottleneck", "st", "lora"]


class Preset(BaseModel):
    """A cohort's settings and the recipe to train on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(description="name of the trained model")
    about: str = Field("", description="which scans and targets, for people")
    target_labels: tuple[int, ...] = Field((), description="label values of the target; []: all above 0")
    network: Literal["vit_b", "vit_l", "vit_h", "tiny", "dinov2_s", "dinov2_b", "dinov2_l"] = Field(
        "vit_b",
        description="size of the network where init is none: vit_b, vit_l, vit_h, tiny, dinov2_s, dinov2_b or "
        "dinov2_l; else init says it",
    )
    init: str = Field(
        "sam_vit_b",
        description="what to start from: sam_vit_b, sam_vit_l, sam_vit_h, medsam, dinov2_vits14, dinov2_vitb14, "
        "dinov2_vitl14, none (fresh weights), or a model's name or file",
    )
    depth: int | None = Field(
        None,
        ge=MIN_DEPTH,
        description="the first so many blocks of SAM's or DINOv2's transformer, at least 4; null: all of them",
    )
    tuning: Tuning = Field(
        "spatial", description="what is tuned: spatial (adapters, the paper), frozen, full, bottleneck, st or lora"
    )
    dense: int = Field(
        0,
        ge=0,
        description="channels of the encoder of prompts as maps, for corrections and boxes; 0: none, as the paper",
    )
    refiner: int = Field(
        0,
        ge=0,
        description="channels of the refiner, which sees crop, prompts and mask together (needs dense); 0: none, as "
        "the paper",
    )
    cues: tuple[Cue, ...] = Field(
        CUES,
        description="what a new refiner sees besides: geodesic (distance from the prompts along the intensities), "
        "intensity (relative to the prompts' own)",
    )
    quality: int = Field(
        0, ge=0, description="hidden width of the head that predicts a mask's IoU; 0: none, as the paper"
    )
    automatic: bool = Field(
        False,
        description="true: a model without prompts, which proposes lesions on whole scans (docs/how-to/propose.md)",
    )
    token_voxels: Literal[4, 8, 16] | None = Field(
        None,
        description="edge of a token: 4, 8 or 16 voxels; null: as in what is started from (SAM: 4, for crops of 128; "
        "dinov2_vits14: 8)",
    )
    preprocessing: Preprocessing = Field(description="how a scan becomes the network's input; stays in the model")
    augmentation: Augmentation = Field(description="how training crops vary at random")
    targets: TargetSampling = Field(
        TargetSampling(), description="what a training crop's target is, as weights of its kinds"
    )
    prompt_sampling: PromptSampling = Field(description="how the prompts of a training crop are drawn")
    recipe: Recipe = Field(description="length, optimiser, arithmetic and validation of the training")
    split: PaperSplit | Split | None = Field(
        None,
        description="lists of scans or patients, one of the paper's folds (paper, fold), or null: by patients' hashes",
    )

    @model_validator(mode="after")
    def _without_prompts(self) -> Self:
        unused = [
            f"{name} {value}"
            for name, value in (("dense", self.dense), ("refiner", self.refiner), ("quality", self.quality))
            if value
        ]
        if self.prompt_sampling.rounds > 1 or set(self.prompt_sampling.first_prompt_prob) != {"click"}:
            unused.append("prompts with corrections or of other kinds than clicks")
        if self.preprocessing.mirror:
            unused.append("mirror")
        if not self.targets.contours_alone:
            unused.append("targets other than contours")
        if self.automatic and unused:
            raise ValueError(f"an automatic model takes no prompts: leave out {', '.join(unused)}")
        return self

    @model_validator(mode="after")
    def _mirrored(self) -> Self:
        if self.preprocessing.mirror and not self.augmentation.flip_prob[2]:
            raise ValueError(
                "mirror: a model that predicts mirrored crops must be trained on some; set flip_prob of W above 0"
            )
        return self

    def as_interactive(self) -> Preset:
        """The preset of the same cohort for a model that takes every prompt, is corrected, and zooms.

        Dense prompts, a head for the predicted IoU, a simulated user who begins with any kind of prompt and corrects up
        to five times, and three crops in ten resized to fit the target; and prediction of the mirrored crop too, where
        training mirrors crops left to right. What the preset sets of these already, stays.

        Raises:
            SettingsError: an automatic preset.
        """
        if self.automatic:
            raise SettingsError(f"preset {self.name} is automatic, it takes no prompts; choose one of the two")
        moved = {
            "resize_prob": self.augmentation.resize_prob or 0.3,
            "translation": max(self.augmentation.translation, 0.12),
        }
        low, high = self.augmentation.resize
        zoom = self.preprocessing.zoom if self.preprocessing.zoom != (1.0, 1.0) else (min(low, 1.0), max(high, 1.0))
        changes = {
            "dense": self.dense or 16,
            "quality": self.quality or 64,
            "preprocessing": self.preprocessing.model_copy(
                update={"zoom": zoom, "mirror": self.augmentation.flip_prob[2] > 0}
            ),
            "augmentation": self.augmentation.model_copy(update=moved),
            "prompt_sampling": self.prompt_sampling if self.prompt_sampling.rounds > 1 else INTERACTIVE,
        }
        return self._changed(changes)

    def as_automatic(self) -> Preset:
        """The preset of the same cohort for a model without prompts (the paper's, Table 2).

        Crops of 128³, the paper's with prompts, become its 256³ without, and SAM's tokens 8 voxels wide, so that there
        are as many; other crops stay. One crop in three, at least, lies anywhere. What is about prompts and zooming is
        put aside. A preset that is automatic already stays as it is.
        """
        if self.automatic:
            return self
        large = self.network != "tiny" and self.preprocessing.crop == (128, 128, 128)
        preprocessing: dict[str, Any] = {"zoom": (1.0, 1.0), "mirror": False} | (
            {"crop": (256, 256, 256)} if large else {}
        )
        anywhere = {"target_prob": min(self.augmentation.target_prob, 2 / 3), "resize_prob": 0.0}
        changes = {
            "automatic": True,
            "token_voxels": 8 if large else self.token_voxels,
            "dense": 0,
            "refiner": 0,
            "quality": 0,
            "preprocessing": self.preprocessing.model_copy(update=preprocessing),
            "augmentation": self.augmentation.model_copy(update=anywhere),
            "prompt_sampling": PromptSampling(target_clicks=(1, 1), random_clicks=0),
            "targets": TargetSampling(),
        }
        return self._changed(changes)

    def _changed(self, changes: dict[str, Any]) -> Preset:
        """The preset with some fields changed, checked as a whole."""
        return Preset.model_validate(self.model_copy(update=changes).model_dump())

    @classmethod
    def load(cls, preset: str | Path) -> Preset:
        """A preset that ships, by name, or a file.

        Raises:
            SettingsError: no such preset, not YAML, or a field that is wrong; the message names it.
        """
        if str(preset) in PRESETS:
            text = (resources.files(__package__) / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
        else:
            path = Path(preset)
            if not path.is_file():
                raise SettingsError(
                    f"no preset {str(preset)!r}: neither a file nor one of {', '.join(PRESETS)}. "
                    "`palpate audit COHORT --preset FILE` writes one for a cohort of yours"
                )
            text = path.read_text(encoding="utf-8", errors="replace")
        content = parse(text, str(preset))
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SettingsError(f"{preset}: {explained(error)}") from error

    def write(self, path: str | Path) -> None:
        """Write the preset as YAML, each setting with its meaning.

        Raises:
            OutputError: it cannot be written.
        """
        with replacing(path) as (staged,):
            staged.write_text(to_yaml(self), encoding="utf-8")

    def with_recipe(self, **changes: Any) -> Preset:
        """The same preset with some of the recipe's fields changed; steps take the place of epochs, epochs of steps.

        Raises:
            SettingsError: a value that the recipe does not take.
        """
        if changes.keys() & LENGTHS:
            changes = dict.fromkeys(LENGTHS) | changes
        try:
            recipe = Recipe.model_validate(self.recipe.model_dump() | changes)
        except ValidationError as error:
            raise SettingsError(explained(error)) from error
        return self.model_copy(update={"recipe": recipe})


def adapting(name: str, target_labels: tuple[int, ...], preprocessing: Preprocessing, split: Split | None) -> Preset:
    """The paper's recipe for a cohort of one's own: SAM's ViT-B, spatial adapters."""
    return Preset(
        name=name,
        target_labels=target_labels,
        preprocessing=preprocessing,
        augmentation=PAPER_AUGMENTATION,
        prompt_sampling=PromptSampling(),
        recipe=Recipe(),
        split=split,
    )


def starting_from_nothing(
    name: str, target_labels: tuple[int, ...], preprocessing: Preprocessing, split: Split | None
) -> Preset:
    """A small network for a cohort of one's own, without a base: hours on a CPU."""
    return Preset(
        name=name,
        target_labels=target_labels,
        network="tiny",
        init="none",
        tuning="full",
        preprocessing=preprocessing,
        augmentation=Augmentation(),
        prompt_sampling=PromptSampling(target_clicks=(1, 3), random_clicks=0, as_inference=True),
        recipe=from_nothing(),
        split=split,
    )


# A simulated user: clicks first, mostly, and up to five corrections; an initial mask first in one of ten.
INTERACTIVE = PromptSampling(
    target_clicks=(1, 1),
    random_clicks=0,
    as_inference=True,
    rounds=6,
    # Mostly clicks: a single one is the hardest prompt, and the first that training on others lost
    # (docs/design/experiments.md).
    first_prompt_prob={
        "click": 0.56,
        "box": 0.13,
        "slice box": 0.06,
        "scribble": 0.05,
        "paint": 0.06,
        "lasso": 0.04,
        "initial mask": 0.1,
    },
    stroke_prob=0.3,
    consistency_weight=0.3,
)
# The paper's augmentation for kidney and liver (docs/design/network.md, section 5). A crop placed at random in one 1.2
# times as large is a translation of a tenth of its edge either way; target and any other voxel are centred 2 : 1.
PAPER_AUGMENTATION = Augmentation(
    target_prob=2 / 3,
    zoom=(0.85, 1.25),
    zoom_prob=0.8,
    stretch=1.0,
    rotation_degrees=(0.0, 0.0, 0.0),
    rotation_prob=0.0,
    rotate90_prob=0.5,
    flip_prob=(0.5, 0.5, 0.5),
    translation=0.1,
    intensity_shift=20.0,
    intensity_shift_prob=0.5,
    contrast=0.0,
    brightness=0.0,
    noise=0.0,
)


def explained(error: ValidationError) -> str:
    """What is wrong with settings, one clause a field, without the library's own words around it."""
    clauses = []
    for one in error.errors()[:6]:
        where = ".".join(str(part) for part in one["loc"])
        clauses.append(f"{where}: {one['msg'].removeprefix('Value error, ')} (given: {str(one['input'])[:80]})")
    return "; ".join(clauses)
