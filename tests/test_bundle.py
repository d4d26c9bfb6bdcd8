"""A model as one file."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from palpate.bundle import (
    Bundle,
    Calibration,
    Provenance,
    describe,
    frozen_sha256,
    load,
    paper_preprocessing,
    with_depth,
    with_patch_size,
    with_tuning,
    without_prompt_encoder,
)
from palpate.errors import ModelError, OutputError, SettingsError
from palpate.model import TUNINGS, is_adapter, is_frozen
from small import CONFIG, PREPROCESSING, prompted_bundle, small_bundle

CROP, CLICK = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[16, 16, 16]]])


def logits(bundle: Bundle) -> torch.Tensor:
    with torch.inference_mode():
        return bundle.network(CROP, CLICK)  # type: ignore[no-any-return]


def trained(bundle: Bundle) -> Bundle:
    """The bundle, with everything that a cohort tunes moved a little."""
    torch.manual_seed(5)
    with torch.no_grad():
        for _, parameter in bundle.network.named_tuned():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return bundle


def imported() -> Bundle:
    """A small network that says it came from SAM, with adapters that have learned nothing."""
    provenance = Provenance(name="sam", origin="imported from a sam_vit_b", imported_from="sam")
    return Bundle(small_bundle().network, PREPROCESSING, provenance)


def test_a_full_model_comes_back_as_it_was(tmp_path: Path) -> None:
    bundle = small_bundle()
    bundle.save(tmp_path / "m.safetensors")
    back = load(tmp_path / "m.safetensors")
    assert back.preprocessing == bundle.preprocessing
    assert back.provenance == bundle.provenance
    assert torch.equal(logits(back), logits(bundle))


def test_the_hash_of_results_is_of_weights_and_calibration_not_of_what_was_measured() -> None:
    bundle = small_bundle()
    answers = bundle.answers_sha256()
    measured = replace(bundle, calibration=Calibration(measured={"scans": 3}))
    assert measured.answers_sha256() == answers
    assert replace(bundle, calibration=Calibration(temperature=1.5)).answers_sha256() != answers
    assert trained(small_bundle()).answers_sha256() != answers


def test_half_the_size_in_half_precision(tmp_path: Path) -> None:
    bundle = small_bundle()
    bundle.save(tmp_path / "full.safetensors")
    bundle.save(tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert 0.4 < sizes[1] / sizes[0] < 0.6
    torch.testing.assert_close(logits(load(tmp_path / "half.safetensors")), logits(bundle), rtol=0.05, atol=0.05)


def test_an_adapter_needs_its_base_and_no_other(tmp_path: Path) -> None:
    base, other = small_bundle(0), small_bundle(1)
    tuned = trained(small_bundle(0))
    base.save(tmp_path / "base.safetensors", dtype=torch.float32)
    path = tmp_path / "adapter.safetensors"
    tuned.save(path, adapter_only=True)
    assert path.stat().st_size < (tmp_path / "base.safetensors").stat().st_size
    for given in (base, tmp_path / "base.safetensors"):
        assert torch.equal(logits(load(path, base=given)), logits(tuned))
    with pytest.raises(ModelError, match="is an adapter and needs the model it was trained on"):
        load(path)
    with pytest.raises(ModelError, match="was trained on another base"):
        load(path, base=other)
    with pytest.raises(ModelError, match="is a full model and takes no base"):
        load(tmp_path / "base.safetensors", base=base)


def test_the_hash_is_of_the_frozen_tensors_alone() -> None:
    state = small_bundle().network.state_dict()
    before = frozen_sha256(state, CONFIG)
    assert frozen_sha256(dict(reversed(state.items())), CONFIG) == before, "whatever their order"
    assert frozen_sha256({k: v for k, v in state.items() if is_frozen(k, CONFIG)}, CONFIG) == before
    state["encoder.pos_embed"] = state["encoder.pos_embed"] + 1e-6
    assert frozen_sha256(state, CONFIG) != before


@pytest.mark.parametrize("tuning", TUNINGS)
def test_every_tuning_comes_back_from_a_whole_file(tmp_path: Path, tuning: str) -> None:
    tuned = trained(with_tuning(small_bundle(), tuning))
    tuned.save(tmp_path / "whole.safetensors")
    back = load(tmp_path / "whole.safetensors")
    assert back.network.config == tuned.network.config
    assert torch.equal(logits(back), logits(tuned))
    assert describe(back)["tuning"] == tuning


# Largest difference of a logit, as a share of the largest logit, that storing tensors as bfloat16 (8 bits) may make.
BFLOAT16 = 0.02


@pytest.mark.parametrize("tuning", [tuning for tuning in TUNINGS if tuning != "full"])
@pytest.mark.parametrize("base_tuning", ["spatial", "lora", "full"])
def test_every_tuning_comes_back_from_an_adapter_and_a_base_of_another_kind(
    tmp_path: Path, tuning: str, base_tuning: str
) -> None:
    """The base is what was imported; whatever adapters it has itself, it holds what the adapter's network froze."""
    base = with_tuning(imported(), base_tuning, seed=7)
    tuned = trained(with_tuning(imported(), tuning))
    for dtype in (torch.float32, torch.bfloat16):
        path = tmp_path / f"{dtype}.safetensors"
        tuned.save(path, adapter_only=True, dtype=dtype)
        back = load(path, base=base)
        for name, value in back.network.state_dict().items():
            exact = tuned.network.state_dict()[name]
            as_stored = exact if is_frozen(name, tuned.network.config) else exact.to(dtype).float()
            assert torch.equal(value, as_stored), "the base is not rounded"
        expected = logits(tuned)
        assert (logits(back) - expected).abs().max() <= (dtype == torch.bfloat16) * BFLOAT16 * expected.abs().max()
        assert dtype == torch.bfloat16 or torch.equal(logits(back), expected)
    with pytest.raises(ModelError, match=r"another base: its frozen tensors hash to .*, those of small to"):
        load(tmp_path / "torch.float32.safetensors", base=small_bundle(1))


def test_where_all_is_tuned_an_adapter_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="small: every parameter is tuned, so an adapter would be all of it"):
        with_tuning(small_bundle(), "full").save(tmp_path / "a.safetensors", adapter_only=True)
    assert describe(with_tuning(small_bundle(), "full"))["frozen tensors (SHA-256)"] is None


def test_an_adapter_looks_for_its_base_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "adapter.safetensors"
    shipped = load("palpate-tiny")
    tuned = trained(with_tuning(shipped, "lora"))
    tuned.save(path, adapter_only=True, base_name="palpate-tiny")
    assert torch.equal(logits(load(path)), logits(tuned))
    small_bundle().save(path, adapter_only=True, base_name="palpate-tiny")
    with pytest.raises(ModelError, match=r"was trained on another base \(palpate-tiny\)"):
        load(path)
    small_bundle().save(path, adapter_only=True, base_name="my-base")
    with pytest.raises(
        ModelError, match=r"needs the model it was trained on \(my-base, frozen .*--base\)\. Its name was tried"
    ):
        load(path)
    monkeypatch.chdir(tmp_path)
    for name in ("adapter.safetensors", str(path)):  # never a file, least of all itself
        small_bundle().save(path, adapter_only=True, base_name=name)
        with pytest.raises(ModelError, match=r"give it as base \(--base\)$"):
            load(path)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_retuning_copies_all_that_both_have(tuning: str) -> None:
    before = small_bundle()
    expected = {name: value.clone() for name, value in before.network.state_dict().items()}
    random = torch.random.get_rng_state()
    after, again, other = (with_tuning(before, tuning, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), random)
    state = after.network.state_dict()
    kept = expected.keys() & state.keys() - {name for name in state if is_adapter(name) and tuning == "st"}
    assert {name for name in expected if not is_adapter(name)} <= kept
    assert all(torch.equal(state[name], expected[name]) for name in kept)
    fresh = [name for name in state if name not in kept]
    bias = "encoder.blocks.0.adapter.conv.bias"  # both kinds of grid adapter have one, of one shape
    assert tuning != "st" or not torch.equal(state[bias], expected[bias])
    assert (fresh == []) == (tuning in ("spatial", "frozen", "full"))
    assert all(torch.equal(state[name], again.network.state_dict()[name]) for name in fresh)
    assert all(torch.equal(state[n], other.network.state_dict()[n]) for n in fresh) == (not fresh)
    assert all(torch.equal(value, expected[name]) for name, value in before.network.state_dict().items())
    assert not after.network.training


def test_another_tuning_is_a_change_in_the_provenance() -> None:
    provenance = with_tuning(small_bundle(), "lora").provenance
    assert provenance.changes == (
        "Tuning lora: 24 tensors of its spatial adapters were dropped, 16 tensors of lora adapters start fresh.",
    )
    assert provenance.notice == small_bundle().provenance.notice
    assert with_tuning(small_bundle(), "spatial").provenance == small_bundle().provenance
    with pytest.raises(SettingsError, match="no tuning choice 'Lora'; there are spatial, frozen, full, bottleneck"):
        with_tuning(small_bundle(), "Lora")


@pytest.mark.parametrize(
    ("origin", "imported_from"),
    [
        ("imported from a sam_vit_b checkpoint (MedSAM)", "sam"),
        ("imported from a release checkpoint", "release"),
        ("palpate 0.1.0 train: sam_vit_b, tuning spatial", None),
    ],
)
def test_files_of_earlier_versions_say_what_they_were_imported_from(
    tmp_path: Path, origin: str, imported_from: str | None
) -> None:
    path = tmp_path / "old.safetensors"
    small_bundle().save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["palpate"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    for new in ("imported_from", "changes"):
        del header["provenance"][new]
    header["provenance"]["origin"] = origin
    save_file(tensors, path, metadata={"palpate": json.dumps(header)})
    old = load(path)
    assert (old.provenance.origin, old.provenance.imported_from) == (origin, imported_from)
    assert with_tuning(old, "full").network.config.adapter == ("none" if imported_from == "sam" else "spatial")
    old.save(path)
    assert load(path).provenance == old.provenance


def test_full_keeps_adapters_that_have_learned() -> None:
    """A SAM import's adapters are noise; a trained network would lose a part of itself."""
    assert with_tuning(imported(), "full").network.config.adapter == "none"
    kept = with_tuning(small_bundle(), "full")
    assert kept.network.config.adapter == "spatial"
    assert torch.equal(logits(kept), logits(small_bundle()))


def test_what_info_shows() -> None:
    record = describe(small_bundle())
    network = small_bundle().network
    assert record["parameters"]["all"] == sum(p.numel() for p in network.parameters())
    assert record["preprocessing"]["crop"] == [32, 32, 32]
    assert record["network"]["width"] == CONFIG.width
    json.dumps(record)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('/tmp/palpate-was-here', 'w').close()",))


@pytest.mark.parametrize("kind", ["text", "empty", "pickle", "foreign", "cut", "header", "newer", "tensors"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    small_bundle().save(path)
    good = path.read_bytes()
    messages = {
        "text": "not a Palpate model", "empty": "not a Palpate model", "pickle": "not a Palpate model",
        "foreign": "not a Palpate model", "cut": "not a Palpate model", "header": "header does not describe a model",
        "newer": "model format 99, this program reads 1; update palpate", "tensors": "tensors missing",
    }  # fmt: skip
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Attack()))
    elif kind == "cut":
        path.write_bytes(good[: len(good) // 2])
    else:
        tensors = {"a": torch.zeros(2)}
        headers = {"foreign": None, "header": {"format": 1}, "newer": {"format": 99}, "tensors": None}
        if kind == "tensors":
            size = int.from_bytes(good[:8], "little")
            text = json.loads(good[8 : 8 + size])["__metadata__"]["palpate"]
        else:
            text = json.dumps(headers[kind])
        save_file(tensors, path, metadata=None if kind == "foreign" else {"palpate": text})
    with pytest.raises(ModelError, match=messages[kind]):
        load(path)
    assert not Path("/tmp/palpate-was-here").exists()


def test_missing_models_and_names() -> None:
    with pytest.raises(ModelError, match="neither a file nor a bundled name"):
        load("palpate-huge")
    with pytest.raises(ModelError, match="is a folder"):
        load(Path(__file__).parent)
    with pytest.raises(ModelError, match="no intensities called 'mri'; there are kits21"):
        paper_preprocessing("mri")


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        small_bundle().save(tmp_path / "missing" / "m.safetensors")


def test_without_prompts(tmp_path: Path) -> None:
    """What prompts need is dropped, the rest is the same; a file of it comes back."""
    whole = prompted_bundle()
    alone = without_prompt_encoder(whole)
    before, after = whole.network.state_dict(), alone.network.state_dict()
    dropped = before.keys() - after.keys()
    assert {name.partition(".")[0] for name in dropped} == {"prompt", "dense"}
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert alone.provenance.changes == (f"Made automatic: {len(dropped)} tensors of its prompts were dropped.",)
    assert alone.preprocessing == whole.preprocessing
    assert without_prompt_encoder(alone) is alone
    assert not alone.network.training
    path = tmp_path / "alone.safetensors"
    alone.save(path)
    loaded = load(path)
    assert loaded.network.config == alone.network.config
    assert loaded.network.prompt is None
    crop = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.network(crop), alone.network(crop))


def test_an_automatic_adapter_needs_the_promptable_base(tmp_path: Path) -> None:
    base = small_bundle()
    alone = without_prompt_encoder(with_tuning(base, "lora"))
    torch.nn.init.normal_(alone.network.decoder.classify.weight)
    alone.save(tmp_path / "adapter.safetensors", adapter_only=True)
    state = load(tmp_path / "adapter.safetensors", base=base).network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in alone.network.state_dict().items())


def test_an_adapter_of_the_first_blocks_finds_its_whole_base(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"transformer": "dinov2", "depth": 8})
    whole = small_bundle(config=config)
    base = replace(whole, provenance=whole.provenance.model_copy(update={"imported_from": "dinov2"}))
    cut = trained(with_tuning(with_depth(base, 5), "spatial"))
    cut.save(tmp_path / "adapter.safetensors", adapter_only=True)
    assert torch.equal(logits(load(tmp_path / "adapter.safetensors", base=base)), logits(cut))
    with pytest.raises(ModelError, match="was trained on another base"):
        load(tmp_path / "adapter.safetensors", base=small_bundle(1, config))


def test_sams_weights_on_wider_tokens() -> None:
    config = CONFIG.model_copy(update={"token_voxels": 4, "detail_width": 0, "spare_attention": True})
    sam = small_bundle(config=config)
    wider = with_patch_size(without_prompt_encoder(sam), 8)
    assert wider.network.config == config.model_copy(
        update={"token_voxels": 8, "promptless": True, "spare_attention": False}
    )
    before = sam.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in wider.network.state_dict().items())
    assert wider.network(torch.randn(1, 1, 64, 64, 64)).shape == (1, 2, 64, 64, 64)
    assert with_patch_size(wider, 8) is wider
    with pytest.raises(SettingsError, match=r"small: its detail path is made for tokens of 8 voxels.* instead of 4"):
        with_patch_size(small_bundle(), 4)


def test_the_models_hash_is_of_all_that_makes_its_masks() -> None:
    bundle = small_bundle()
    before = bundle.sha256()
    assert small_bundle().sha256() == before
    assert small_bundle(1).sha256() != before
    renamed = Bundle(bundle.network, bundle.preprocessing, Provenance(name="other", origin="elsewhere"))
    assert renamed.sha256() == before, "a name makes no mask"
    finer = bundle.preprocessing.model_copy(update={"spacing": (1.0, 1.0, 1.0)})
    assert Bundle(bundle.network, finer, bundle.provenance).sha256() != before
