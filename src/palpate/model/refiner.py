"""The refiner: a slim convolutional network that sees crop, prompts, cues and the mask so far together.

The transformer sees the crop alone; its mask follows what it has learned of lesions. The refiner sees where the prompts
lie and what is alike around them (`cues`), at the crop's resolution, and adds to the decoder's logits; the idea of a
shallow refiner is PRISM's (Li et al., arXiv 2404.15028). It adds nothing before it is trained: a network that gains it
computes the same as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cues
from .channels_last import Pointwise
from .config import NetworkConfig
from .dense import CHANNELS, in_eights, zeroed
from .norm import NormReLU

LARGEST_LOGIT = 8.0  # of the decoder, as it is seen here


class Block(nn.Module):
    """3³ convolutions, each with InstanceNorm and ReLU."""

    def __init__(self, *widths: int):
        super().__init__()
        steps = neighbours(widths)
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1, bias=False) for a, b in steps)
        self.norm = NormReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`[B, first width, h, w, d]` to `[B, last width, h, w, d]`."""
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv3d)
            known = torch.is_grad_enabled() or x.shape[1] % 8 == 0
            x = self.norm(convolution(x) if known else in_eights(convolution, x))
        return x


class Refiner(nn.Module):
    """Crop, prompts, cues and the decoder's output to an addition to its logits.

    A pyramid from the crop's resolution to half of the decoder's grid and back; on the decoder's grid its channels
    join. On the way up levels are added, not joined: at the crop's resolution a convolution of three times the
    channels takes three times as long.

    Args:
        config: `refiner_width` channels at the crop's resolution; they double at every halving.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.refiner_width
        levels = (config.token_voxels // 2).bit_length()  # halvings: to the decoder's grid, and once more
        widths = [width << level for level in range(levels + 1)]
        self.cues = config.cues
        steps = neighbours(widths)
        seen = 2 + len(CHANNELS) + sum(cues.CHANNELS[kind] for kind in self.cues)
        first = [Block(seen, width), *(Block(a, b, b) for a, b in steps)]
        # On the decoder's grid its channels join.
        first[-2] = Block(widths[-3] + config.decoder_width, widths[-2], widths[-2])
        self.down = nn.ModuleList(first)
        self.narrow = nn.ModuleList(Pointwise(b, a, bias=False) for a, b in steps)
        self.up = nn.ModuleList(Block(a, a) for a in widths[:-1])
        self.classify = zeroed(nn.Conv3d(width, 2, 3, padding=1))

    def forward(self, image: Tensor, maps: Tensor, logits: Tensor, joined: Tensor) -> Tensor:
        """What to add to the decoder's logits, `[B, 2, H, W, D]`.

        Args:
            image: the normalised crop, `[B, 1, H, W, D]`.
            maps: its prompts as maps, `[B, 4, H, W, D]`.
            logits: the decoder's, `[B, 2, H, W, D]`.
            joined: the decoder's channels, `[B, decoder_width, 2h, 2w, 2d]`.
        """
        lesion = (logits[:, 1:] - logits[:, :1]).clamp(-LARGEST_LOGIT, LARGEST_LOGIT) / LARGEST_LOGIT
        x = torch.cat([image, lesion, maps, cues.cues_of(image, maps, self.cues)], dim=1).to(logits.dtype)
        levels: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number:
                x = F.avg_pool3d(x, 2)
            if number == len(self.down) - 2:
                x = torch.cat([x, joined], dim=1)
            x = block(x)
            levels.append(x)
        for number in range(len(self.up) - 1, -1, -1):
            narrow = self.narrow[number](x)
            wide = F.interpolate(narrow, size=levels[number].shape[2:], mode="trilinear")
            x = self.up[number](levels[number] + wide)
        added: Tensor = self.classify(x)
        return added


def neighbours(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Each width with the next."""
    return [(widths[number], widths[number + 1]) for number in range(len(widths) - 1)]
