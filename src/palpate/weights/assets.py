"""The table of what can be fetched. A size or a hash stands here where it is published, and is empty elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import CohortError, ModelError, PalpateError, SettingsError

SEGMENT_ANYTHING = "https://dl.fbaipublicfiles.com/segment_anything"
DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"


@dataclass(frozen=True)
class Hub:
    """A file on the Hugging Face Hub.

    Attributes:
        repo: owner and name of the repository.
        file: its file.
        revision: branch, tag or commit.
        endpoint: another Hub than the one that `HF_ENDPOINT` names (huggingface.co by default).
        bytes: published size, if any.
        sha256: published hash, if any.
    """

    repo: str
    file: str = "model.safetensors"
    revision: str = "main"
    endpoint: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    kind: Literal["hub"] = "hub"

    @property
    def url(self) -> str:
        """The file's address, for a browser."""
        return f"{self.endpoint or 'https://huggingface.co'}/{self.repo}/resolve/{self.revision}/{self.file}"


@dataclass(frozen=True)
class Official:
    """A file at its makers' own address.

    Attributes:
        url: the address.
        bytes: published size, if any.
        sha256: published hash, if any.
    """

    url: str
    bytes: int | None = None
    sha256: str | None = None
    kind: Literal["official"] = "official"

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]


AssetSource = Hub | Official


@dataclass(frozen=True)
class Asset:
    """Something that can be fetched.

    Attributes:
        name: what users call it.
        kind: a model's weights, or a cohort of labelled scans in a tar archive.
        sources: where it is, the preferred source first.
        licence: its licence.
        about: one line on what it is.
        title: what its makers call it.
    """

    name: str
    kind: Literal["weights", "cohort"]
    sources: tuple[AssetSource, ...]
    licence: str
    about: str
    title: str = "SAM"

    def place(self, source: AssetSource, root: Path) -> Path:
        """Where a source's file belongs under a root folder."""
        return root / "cohorts" / source.file if self.kind == "cohort" else root / "weights" / self.name / source.file

    def at(self, source: str | None) -> tuple[AssetSource, ...]:
        """The sources, or the one that was asked for.

        Raises:
            SettingsError: it has no such source.
        """
        found = tuple(s for s in self.sources if source in (None, s.kind))
        if not found:
            kinds = " or ".join(s.kind for s in self.sources)
            raise SettingsError(f"{self.name} has no source {source!r}; choose {kinds}")
        return found

    @property
    def error_type(self) -> type[PalpateError]:
        """The error for one that cannot be fetched or used."""
        return CohortError if self.kind == "cohort" else ModelError


_TABLE = (
    Asset(
        "sam_vit_b", "weights",
        (
            Hub("facebook/sam-vit-base"),
            Official(
                f"{SEGMENT_ANYTHING}/sam_vit_b_01ec64.pth", 375_042_383,
                "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            ),
        ),
        "Apache-2.0", "Segment Anything, ViT-B image encoder: the base that adapters are trained on",
    ),
    Asset(
        "sam_vit_l", "weights",
        (
            Hub("facebook/sam-vit-large"),
            Official(
                f"{SEGMENT_ANYTHING}/sam_vit_l_0b3195.pth", None,
                "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            ),
        ),
        "Apache-2.0", "Segment Anything, ViT-L image encoder",
    ),
    Asset(
        "sam_vit_h", "weights",
        (
            Hub("facebook/sam-vit-huge"),
            Official(
                f"{SEGMENT_ANYTHING}/sam_vit_h_4b8939.pth", None,
                "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            ),
        ),
        "Apache-2.0", "Segment Anything, ViT-H image encoder",
    ),
    Asset(
        "medsam", "weights", (Hub("wanglab/medsam-vit-base"),),
        "Apache-2.0", "SAM's ViT-B fine-tuned on medical images (Ma et al. 2024)", "MedSAM",
    ),
    Asset(
        "dinov2_vits14", "weights",
        (
            Hub(
                "facebook/dinov2-small",
                sha256="ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
            ),
            Official(f"{DINOV2}/dinov2_vits14/dinov2_vits14_pretrain.pth"),
        ),
        "Apache-2.0", "DINOv2, ViT-S/14: a smaller transformer than SAM's, pretrained without labels", "DINOv2",
    ),
    Asset(
        "dinov2_vitb14", "weights",
        (
            Hub(
                "facebook/dinov2-base",
                sha256="d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
            ),
            Official(f"{DINOV2}/dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
        ),
        "Apache-2.0", "DINOv2, ViT-B/14", "DINOv2",
    ),
    Asset(
        "dinov2_vitl14", "weights",
        (
            Hub(
                "facebook/dinov2-large",
                sha256="399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
            ),
            Official(f"{DINOV2}/dinov2_vitl14/dinov2_vitl14_pretrain.pth"),
        ),
        "Apache-2.0", "DINOv2, ViT-L/14", "DINOv2",
    ),
    Asset(
        "hippocampus", "cohort",
        (Official("https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"),),
        "CC BY-SA 4.0", "Medical Segmentation Decathlon, task 4: 260 labelled T1 scans of the hippocampus",
        "Medical Segmentation Decathlon, task 4",
    ),
)  # fmt: skip
ASSETS: dict[str, Asset] = {asset.name: asset for asset in _TABLE}
"""Everything that `fetch` knows, by name."""


def find(name: str) -> Asset:
    """The table's entry.

    Raises:
        ModelError: no such name.
    """
    if name not in ASSETS:
        raise ModelError(f"nothing called {name!r} to fetch; there are {', '.join(ASSETS)}")
    return ASSETS[name]
