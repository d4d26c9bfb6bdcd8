"""A model small enough for tests: random weights, 32³ crops of 2 mm."""

import torch

from palpate.bundle import Bundle, Provenance
from palpate.frame import CropPercentiles, Preprocessing
from palpate.model import Network, NetworkConfig

CONFIG = NetworkConfig(
    width=48, depth=4, heads=3, token_voxels=8, position_grid=4, depth_grid=4, window_rows=15, global_blocks=(),
    neck_width=32, prompt_mlp=64, decoder_width=8, detail_width=4, spare_attention=False,
)  # fmt: skip
PREPROCESSING = Preprocessing(crop=(32, 32, 32), spacing=(2.0, 2.0, 2.0), normalisation=CropPercentiles())


def small_bundle(seed: int = 0, config: NetworkConfig = CONFIG) -> Bundle:
    """A network whose weights are drawn from a seed, and so its masks mean nothing."""
    torch.manual_seed(seed)
    return Bundle(Network(config).eval(), PREPROCESSING, Provenance(name="small", origin="a test"))


def empty_bundle() -> Bundle:
    """A network that sees no lesion anywhere: every logit is 0, so no probability exceeds 0.5."""
    bundle = small_bundle()
    decoder = bundle.network.decoder
    assert decoder.detail is not None
    torch.nn.init.zeros_(decoder.classify.weight)
    torch.nn.init.zeros_(decoder.detail.classify.weight)
    return bundle
