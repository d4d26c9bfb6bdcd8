"""Other programs' checkpoints as models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from .. import weights
from ..checkpoints import import_checkpoint
from ..errors import ModelError
from ..frame import ClipZScore, Preprocessing
from ..model import Network
from .model_file import Bundle
from .provenance import Provenance

# Clip (HU), mean and deviation of the paper's data sets (section 4.1); the release's files do not say which is theirs.
PAPER_INTENSITIES = {
    "kits21": ClipZScore(low=-54, high=247, mean=59.53867, std=55.457336),
    "msd-pancreas": ClipZScore(low=-39, high=204, mean=68.45214, std=63.422806),
    "lits17": ClipZScore(low=-48, high=163, mean=60.057533, std=40.198017),
    "msd-colon": ClipZScore(low=-57, high=175, mean=65.175035, std=32.651197),
}


def paper_preprocessing(data_set: str = "kits21") -> Preprocessing:
    """The paper's 128³ crop at 1 mm, with the intensities of one of its data sets.

    Raises:
        ModelError: no such data set.
    """
    if data_set not in PAPER_INTENSITIES:
        raise ModelError(f"no intensities called {data_set!r}; there are {', '.join(PAPER_INTENSITIES)}")
    return Preprocessing(crop=(128, 128, 128), spacing=(1.0, 1.0, 1.0), normalisation=PAPER_INTENSITIES[data_set])


def import_foreign(path: str | Path, preprocessing: Preprocessing | None = None, origin: str = "") -> Bundle:
    """SAM's, MedSAM's, DINOv2's or the release's checkpoint as a Palpate model.

    Args:
        path: the `.pth`, `.safetensors` (the Hub's layouts, or DINOv2's own) or `.pth.tar` file.
        preprocessing: what the model expects, since such files do not say; the paper's for kidney tumours by default.
        origin: where the file came from, in words, for the model's provenance.

    Raises:
        ModelError: see `checkpoints.import_checkpoint`.
    """
    config, state, kind = import_checkpoint(path)
    network = Network(config)
    network.load_state_dict(state, strict=True)
    makers: Literal["sam", "dinov2", "release"] = "release"
    licence, fresh = "none given by the release", ""
    if kind != "release":
        makers = config.transformer
        title = {"sam": "SAM", "dinov2": "DINOv2"}[makers]
        licence = f"Apache-2.0 ({title}'s weights)"
        fresh = (
            f"Only {title}'s image encoder was imported: adapters, prompt encoder and decoder are untrained, "
            "so its masks mean nothing until it is trained on a cohort. "
        )
    provenance = Provenance(
        name=Path(path).name,
        origin=f"imported from a {kind} checkpoint{f': {origin}' if origin else ''}",
        imported_from=makers,
        licence=licence,
        notice=fresh + "Not a medical device.",
    )
    return Bundle(network.eval(), preprocessing or paper_preprocessing(), provenance)


def load_fetched(name: str) -> Bundle:
    """A model of the table of weights, from the user's cache; its adapters are untrained, as `import_foreign` says.

    Raises:
        ModelError: a cohort's name; weights that have not been fetched.
    """
    asset = weights.find(name)
    if asset.kind != "weights":
        raise ModelError(f"{name}: is a cohort, not a model")
    path = weights.cached(name)
    if path is None:
        raise ModelError(f"{name} is not here yet: run `palpate fetch {name}` first. {weights.needed(asset)}")
    bundle = import_foreign(path)
    made = f"{bundle.provenance.origin} ({asset.title})" if asset.title == "MedSAM" else bundle.provenance.origin
    known = {"name": name, "origin": made, "licence": f"{asset.licence} ({asset.title}'s weights)"}
    return replace(bundle, provenance=bundle.provenance.model_copy(update=known))
