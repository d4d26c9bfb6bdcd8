"""The network: encode a crop once, decode for any clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import NetworkConfig
from .decoder import Decoded, MaskDecoder, Prepared
from .dense import DensePrompts
from .encoder import ImageEncoder
from .prompt import PromptEncoder
from .quality import QualityHead
from .refiner import Refiner
from .tuning import is_frozen, is_unused


class Features(NamedTuple):
    """A crop's features, computed once and used for every click.

    Attributes:
        deepest: the deepest map, before any click, `[B, neck_width, h, w, d]`.
        prepared: the part of the decoder that does not depend on clicks.
        image: the crop itself, `[B, 1, H, W, D]`, where there is a refiner; else None.
    """

    deepest: Tensor
    prepared: Prepared
    image: Tensor | None = None

    def of(self, crops: Sequence[int]) -> Features:
        """The features of some crops of a batch, by their numbers in it."""
        if list(crops) == list(range(len(self.deepest))):
            return self
        index = torch.tensor(crops, device=self.deepest.device)
        deepest, partial, *levels = (
            part.index_select(0, index) for part in (self.deepest, self.prepared.partial, *self.prepared.levels)
        )
        image = None if self.image is None else self.image.index_select(0, index)
        return Features(deepest, Prepared(partial, tuple(levels), self.prepared.size), image)


class Network(nn.Module):
    """3DSAM-adapter's network (arXiv 2306.13465), with its prompt encoder or without.

    Inside, maps run `[B, C, H, W, D]`, the order in which the release stores its weights; crops come
    in and logits go out as `[B, C, D, H, W]`.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config)
        self.prompt = None if config.promptless else PromptEncoder(config)
        self.decoder = MaskDecoder(config)
        self.dense = DensePrompts(config) if config.dense_width else None
        self.refiner = Refiner(config) if config.refiner_width else None
        self.quality = QualityHead(config) if config.quality_width else None

    def encode(self, crop: Tensor, progress: Callable[[float], None] | None = None) -> Features:
        """The features of a normalised crop `[B, 1, D, H, W]`, which do not depend on clicks.

        Args:
            crop: the crop.
            progress: called with the share of the encoder's blocks that are done, above 0 to 1.

        Raises:
            ValueError: an edge that is not a multiple of a token.
        """
        if crop.ndim != 5 or crop.shape[1] != 1 or any(n % self.config.token_voxels for n in crop.shape[2:]):
            raise ValueError(
                f"a crop is [B, 1, D, H, W] with edges that are multiples of {self.config.token_voxels}, "
                f"not {tuple(crop.shape)}"
            )
        image = crop.permute(0, 1, 3, 4, 2)
        maps = self.encoder(image, progress)
        return Features(maps[3], self.decoder.prepare(maps, image), None if self.refiner is None else image)

    def decode(
        self,
        features: Features,
        clicks: Tensor | None = None,
        labels: Tensor | None = None,
        maps: Tensor | None = None,
    ) -> Tensor:
        """Logits `[B, 2, D, H, W]` (background, lesion) for prompts, or, of a promptless network, for none.

        Args:
            features: what `encode` gave.
            clicks: float `[B, N, 3]`, positions (d, h, w) in the crop; a promptless network takes None only.
            labels: int64 `[B, N]`, what each is, by its place in `prompt.LABELS`; -1: none, where other crops of the
                batch have more; None: all are positive clicks.
            maps: float `[B, 4, D, H, W]`, the prompts as maps (`dense.CHANNELS`); None: the tokens alone.

        Raises:
            ValueError: labels or maps for a network that has no dense prompts; clicks for one that takes none, or no
                clicks for one that needs them.
        """
        if self.prompt is None or clicks is None:
            if self.prompt is not None or any(given is not None for given in (clicks, labels, maps)):
                raise ValueError("a promptless network takes no prompts, any other one needs clicks")
            alone: Decoded = self.decoder(features.prepared, features.deepest)
            return alone.logits.permute(0, 1, 4, 2, 3)
        if self.dense is None and (labels is not None or maps is not None):
            raise ValueError("this network takes foreground clicks only (dense_width is 0)")
        H, W, D = features.prepared.size
        size = torch.tensor([H, W, D], device=clicks.device, dtype=torch.float32)
        points = (clicks.float()[..., [1, 2, 0]] + 0.5) * 2 / size - 1
        drawn = None if self.dense is None or maps is None else maps.permute(0, 1, 3, 4, 2)
        dense = None if self.dense is None or drawn is None else self.dense(drawn)
        deepest = features.deepest if dense is None else features.deepest + dense.deep
        logits, joined = self.decoder(features.prepared, self.prompt(deepest, points, labels), dense)
        if self.refiner is not None and drawn is not None:
            assert features.image is not None, "encode keeps it where there is a refiner"
            logits = logits + self.refiner(features.image, drawn, logits, joined)
        turned: Tensor = logits.permute(0, 1, 4, 2, 3)
        return turned

    def predict_iou(self, features: Features, probability: Tensor) -> Tensor:
        """Logits `[B]` of the intersection over union expected of the mask of a probability `[B, D, H, W]`.

        No gradient flows back to the features or the probability.

        Raises:
            ValueError: a network that predicts no IoU.
        """
        if self.quality is None:
            raise ValueError("this network predicts no IoU (quality_width is 0)")
        partial, deepest = features.prepared.partial.detach(), features.deepest.detach()
        logits: Tensor = self.quality(partial, deepest, probability.detach().permute(0, 2, 3, 1), features.image)
        return logits

    def forward(
        self,
        crop: Tensor,
        clicks: Tensor | None = None,
        labels: Tensor | None = None,
        maps: Tensor | None = None,
    ) -> Tensor:
        """`encode`, then `decode`."""
        return self.decode(self.encode(crop), clicks, labels, maps)

    def named_tuned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that a cohort tunes (docs/design/network.md, section 8), unused ones among them."""
        return ((name, p) for name, p in self.named_parameters() if not is_frozen(name, self.config))

    def freeze(self) -> None:
        """Leave gradients on for what is tuned and used; off for all else."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not is_frozen(name, self.config) and not is_unused(name))
