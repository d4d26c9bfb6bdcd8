"""How to infer, as one value, and what of it a mask depends on; read without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ..devices import Precision, check_precision
from ..errors import SettingsError
from .rules import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from ..bundle import Bundle
    from .runtime import Runtime

BUDGET = 32  # most crops of a refinement: on two cores five seconds of palpate-tiny
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class InferenceSettings:
    """How to infer.

    Attributes:
        model: a bundled model's name, or a file.
        base: for an adapter, the model that it was trained on; None: the one that its file names.
        runtime: what computes.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a CUDA device where there is one.
        precision: arithmetic of the network; the weights stay in float32.
        threads: of the arithmetic, for all models of the process; None: PyTorch's own choice.
        zoom: try wider fields where a mask reaches its crop's border, and narrower ones for small lesions and along the
            boundary of large ones, as far as the model was trained for (`Preprocessing.zoom`); False: one crop.
        budget: most crops of a refinement along a large lesion's boundary, a prompt; 0: none.
        rules: the version of the rules by which masks are made. 1: those of version 0.1.0 up to palpate-tiny, for its
            sessions and batches to give the same masks. 2: a scan's padding lies outside it (`frame.padding`), and a
            wider view cannot grow a mask that a nearer one bounds (`views`).

    Raises:
        DeviceError: no such precision.
        SettingsError: a budget, a number of threads or a version of the rules that is none.
    """

    model: str = "palpate-tiny"
    base: str | None = None
    runtime: Literal["torch"] = "torch"
    device: str = "auto"
    precision: Precision = "float32"
    threads: int | None = None
    zoom: bool = True
    budget: int = BUDGET
    rules: int = RULES

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.budget < 0:
            raise SettingsError(f"a budget of {self.budget} crops; give 0 or more")
        if self.threads is not None and self.threads < 1:
            raise SettingsError(f"{self.threads} threads; give 1 or more")
        if not 1 <= self.rules <= RULES:
            raise SettingsError(f"rules of version {self.rules}; this program knows 1 to {RULES}")

    def load(self) -> Bundle:
        """The model.

        Raises:
            ModelError: see `bundle.load`.
        """
        from ..bundle import load

        return load(self.model, base=self.base)

    def start(self, model: Bundle | str | Path | None = None) -> Runtime:
        """The model at work.

        Args:
            model: another one than `self.model`: in memory, or its name or file.

        Raises:
            ModelError: see `bundle.load`.
            DeviceError: no such device here.
        """
        from ..bundle import Bundle, load
        from .runtime import TorchRuntime

        runtimes = {"torch": TorchRuntime}
        if not isinstance(model, Bundle):
            model = self.load() if model is None else load(model, base=self.base)
        return runtimes[self.runtime](model, self.device, self.precision, self.threads)


class InferenceIdentity(BaseModel):
    """What a mask depends on, beside a scan and its prompts.

    Attributes:
        name: what the model calls itself; for people, not compared.
        sha256: of the model's tensors, shape and preprocessing.
        budget: most crops of a refinement; None: one crop, no zoom.
        precision: the arithmetic of its network.
        rules: the version of the rules by which masks are made; of what was written before there were versions, 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    sha256: Sha256
    budget: int | None = Field(BUDGET, ge=0)
    precision: Precision = "float32"
    rules: int = Field(1, ge=1, le=RULES)

    @classmethod
    def of(cls, name: str, sha256: str, settings: InferenceSettings, zooms: bool = True) -> Self:
        """That of a model under some settings.

        Args:
            name: the model's.
            sha256: of what its masks come from.
            settings: how to infer.
            zooms: whether the model was trained for other fields than its own.
        """
        budget = settings.budget if settings.zoom and zooms else None
        return cls(name=name, sha256=sha256, budget=budget, precision=settings.precision, rules=settings.rules)

    def same_as(self, other: InferenceIdentity) -> bool:
        """Whether the same prompts give the same masks."""
        mine, others = ((one.sha256, one.budget, one.precision, one.rules) for one in (self, other))
        return mine == others

    @property
    def arithmetic(self) -> str:
        """What of the settings a mask depends on, in words: "float32 32 rules 2", "bfloat16 no zoom", ..."""
        rules = "" if self.rules == 1 else f" rules {self.rules}"  # so keys of before there were versions stay
        return f"{self.precision} {'no zoom' if self.budget is None else self.budget}{rules}"

    @property
    def description(self) -> str:
        """The model, and what of the settings is not the default, for people."""
        extra = "" if self.budget == BUDGET else ", no zoom" if self.budget is None else f", budget {self.budget}"
        extra += "" if self.precision == "float32" else f", {self.precision}"
        extra += "" if self.rules == RULES else f", rules {self.rules}"
        return f"{self.name} ({self.sha256[:12]}{extra})"
