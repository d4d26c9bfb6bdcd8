"""A model and a cohort small enough for tests: random weights, 32³ crops of 2 mm, phantoms of 4 mm."""

import tempfile
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch

from palpate.bundle import Bundle, Provenance, with_extra_heads
from palpate.cohort import Cohort, LabelledScan
from palpate.cohort.packing import canonical_image, pack_arrays
from palpate.cohort.prepared import PreparedScan, ScanRecord
from palpate.cohort.sampling import CropSampler, Example
from palpate.frame import CropPercentiles, Preprocessing
from palpate.inference import InferenceSettings
from palpate.model import Network, NetworkConfig
from palpate.phantom import make_phantom, oblique_affine
from palpate.predictor import Predictor
from palpate.volume import Volume

CONFIG = NetworkConfig(
    width=48, depth=4, heads=3, token_voxels=8, position_grid=4, depth_grid=4, window_rows=15, global_blocks=(),
    neck_width=32, prompt_mlp=64, decoder_width=8, detail_width=4, spare_attention=False,
)  # fmt: skip
PREPROCESSING = Preprocessing(crop=(32, 32, 32), spacing=(2.0, 2.0, 2.0), normalisation=CropPercentiles())

CPU = InferenceSettings(device="cpu")


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


def small_cohort(folder: Path, count: int = 4, labels: tuple[int, ...] = (1,)) -> Cohort:
    """Phantoms of 48 x 48 x 32 voxels on oblique, anisotropic grids, as files; label values cut the lesion in slabs."""
    scans = []
    for seed in range(count):
        affine = oblique_affine(
            (48, 48, 32), (4, 4, 5), orientation=("RAS", "LPI", "ASR")[seed % 3], angles_deg=(9 * seed, -5, 8)
        )
        made = make_phantom(shape=(48, 48, 32), affine=affine, seed=seed, noise_hu=12.0)
        label = made.lesion.full().astype(np.uint8)
        for number, part in enumerate(np.array_split(np.arange(48), len(labels))):
            label[part] *= labels[number]
        image, contour = folder / f"scan_{seed}.nii.gz", folder / f"label_{seed}.nii.gz"
        scan = LabelledScan(f"scan_{seed}", image, contour, f"patient_{seed}")
        nib.save(nib.Nifti1Image(np.asarray(made.volume.array, np.int16), affine), scan.image)
        nib.save(nib.Nifti1Image(label, affine), scan.label)
        scans.append(scan)
    return Cohort(folder, "phantoms", tuple(scans))


def prompted_bundle(seed: int = 0) -> Bundle:
    """A network with dense prompts whose every layer is random, so that each prompt changes its masks."""
    bundle = small_bundle(seed, CONFIG.model_copy(update={"dense_width": 4}))
    network = bundle.network
    assert network.dense is not None
    assert network.dense.fine2 is not None
    assert network.prompt is not None
    assert network.prompt.labels is not None
    for layer in (network.dense.middle, network.dense.deep, network.dense.fine2, network.prompt.labels):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return bundle


def judging_bundle(seed: int = 0) -> Bundle:
    """The same with a head that expects a quality."""
    bundle = with_extra_heads(prompted_bundle(seed), quality=8, seed=seed)
    assert bundle.network.quality is not None
    torch.nn.init.normal_(bundle.network.quality.out.weight, std=0.5)
    return bundle


def quick_predictor(seed: int = 0, prompted: bool = True) -> Predictor:
    """A predictor that takes milliseconds: 16³ crops of 4 mm, as wide as those of the small model."""
    return Predictor(quick_bundle(seed, prompted), CPU)


@cache
def quick_bundle(seed: int = 0, prompted: bool = True) -> Bundle:
    """The model of `quick_predictor`."""
    bundle = prompted_bundle(seed) if prompted else small_bundle(seed)
    preprocessing = PREPROCESSING.model_copy(update={"crop": (16, 16, 16), "spacing": (4.0, 4.0, 4.0)})
    return Bundle(bundle.network, preprocessing, bundle.provenance)


def noise_scan(seed: int = 0) -> Volume:
    """Noise on a small oblique grid that one crop holds, int16; to a model of random weights as good as a body."""
    affine = oblique_affine((16, 14, 10), (3, 3, 4), orientation="LPS", angles_deg=(3, -5, 8), centre_mm=(10, -20, 30))
    return Volume(np.random.default_rng(seed).integers(-1000, 1000, (16, 14, 10), dtype=np.int16), affine)


_PREPARED = tempfile.TemporaryDirectory(prefix="palpate-tests-", ignore_cleanup_errors=True)


def prepared_scan(volume: Volume, target: npt.NDArray[np.bool_ | np.uint8], name: str = "scan") -> PreparedScan:
    """A prepared scan of a volume and its target or labels `[X, Y, Z]`, in a folder that goes when the process ends."""
    folder = Path(_PREPARED.name)
    key = pack_arrays(canonical_image(volume.array), target.astype(np.uint8), volume.grid, folder)
    record = ScanRecord.model_validate_json((folder / key / "scan.json").read_text())
    return PreparedScan(folder / key, record, (), name, name)


def stacked(sampler: CropSampler, start: int, size: int, clicks: int) -> Example:
    """Examples `start` to `start + size`, stacked along a new first axis."""
    parts = zip(*(sampler.example(i, clicks) for i in range(start, start + size)), strict=True)
    return Example(*(torch.stack(part) for part in parts))
