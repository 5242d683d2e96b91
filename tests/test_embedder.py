import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from retrieval import Embedder, Embeddings
from retrieval.coatnet import CONFIGS
from retrieval.errors import ImageError, UsageError, WeightsError
from retrieval.layers.folding import fold_batch_norms
from retrieval.network import EmbedderConfig, EmbedderNetwork
from retrieval.timm_weights import CONFIGS as TIMM_CONFIGS


def small_network(**config) -> EmbedderNetwork:
    torch.manual_seed(0)
    network = EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=64, **config))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Statistics as after training: without them folding would have nothing to get wrong.
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(network.dimension.net[-1].weight, 0, 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(small_network(), device="cpu")


def pictures(num: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (50 + i, 70, 3), dtype=np.uint8) for i in range(num)]


def test_vectors_are_the_full_ones_cut_at_dims_and_normalised_there(embedder):
    found = embedder.encode(pictures(5))
    assert len(found) == 5 and found.dims.dtype == np.int64
    assert len(set(found.dims.tolist())) > 1
    for vector, full, dim in zip(found.vectors, found.full, found.dims, strict=True):
        assert embedder.min_dim <= dim <= embedder.max_dim
        assert not vector[dim:].any()
        np.testing.assert_allclose(vector[:dim], full[:dim] / np.linalg.norm(full[:dim]), atol=1e-6)
        assert np.linalg.norm(full) == pytest.approx(1, abs=1e-5)


def test_attention_is_a_map_that_sums_to_one(embedder):
    found = embedder.encode(pictures(2))
    assert found.attention.shape == (2, 4, 4)
    np.testing.assert_allclose(found.attention.sum((1, 2)), 1, atol=1e-5)


def test_batches_change_nothing(embedder):
    images = pictures(7)
    whole, parts = embedder.encode(images, batch_size=7), embedder.encode(images, batch_size=3)
    np.testing.assert_allclose(whole.full, parts.full, atol=2e-2)  # bfloat16 sums in another order
    assert (whole.full * parts.full).sum(1).min() > 0.999


def test_paths_bytes_pillow_and_arrays_say_the_same(embedder, tmp_path):
    pixels = pictures(1)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    kinds = [tmp_path / "a.png", str(tmp_path / "a.png"), buffer.getvalue(), Image.fromarray(pixels), pixels]
    full = embedder.encode(kinds).full
    assert (full @ full[0]).min() > 0.9999  # bfloat16 may round by place in the batch


def test_no_pictures_give_empty_arrays(embedder):
    found = embedder.encode([])
    assert found.vectors.shape == (0, 512) and found.dims.shape == (0,) and found.attention.shape == (0, 4, 4)


def test_saved_and_loaded_it_is_the_same_model(embedder, tmp_path):
    embedder.save(tmp_path / "model", notes={"recipe": "by hand"})
    loaded = Embedder.load(tmp_path / "model", device="cpu")
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded.config == embedder.config
    images = pictures(3)
    # float16 on disk: close, not equal.
    assert (loaded.encode(images).full * embedder.encode(images).full).sum(1).min() > 0.999
    assert json.loads((tmp_path / "model" / "config.json").read_text())["notes"] == {"recipe": "by hand"}


def test_loading_draws_nothing_at_random_and_leaves_weights_that_can_be_trained(embedder, tmp_path):
    embedder.save(tmp_path)
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    network = Embedder.load(tmp_path, device="cpu").network
    assert torch.rand(()) == expected
    for name, value in network.state_dict().items():
        stored = embedder.network.state_dict()[name]
        assert value.device.type == "cpu" and value.dtype == stored.dtype, name
        torch.testing.assert_close(value, stored.half().to(stored.dtype), rtol=0, atol=0, msg=name)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_fingerprint_follows_weights_and_configuration(embedder):
    other_weights = small_network()
    with torch.no_grad():
        other_weights.projection.bias[0] += 1
    other_config = small_network(min_dim=48)
    assert len({embedder.fingerprint, Embedder(other_weights).fingerprint, Embedder(other_config).fingerprint}) == 3


@pytest.mark.parametrize("backbone", [CONFIGS["coatnet_micro"], TIMM_CONFIGS["coatnet_nano_rw_224"]])
def test_folded_batch_norms_compute_what_plain_ones_do(backbone):
    torch.manual_seed(0)
    network = EmbedderNetwork(EmbedderConfig(backbone=backbone, image_size=64)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    folded = fold_batch_norms(network)
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        for plain, fast in zip(network(pixels), folded(pixels), strict=True):
            torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    num_norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.backbone.modules())
    assert num_norms < sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.backbone.modules())


def test_concatenate_keeps_order(embedder):
    images = pictures(4)
    parts = [embedder.encode(images[:1]), embedder.encode(images[1:])]
    joined = Embeddings.concatenate(parts)
    np.testing.assert_array_equal(joined.dims, np.concatenate([part.dims for part in parts]))


def test_shipped_weights_load_by_default():
    embedder = Embedder.load(device="cpu")
    assert embedder.name == "default"
    assert embedder.widths == (32, 64, 128, 256, 512)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda e: e.encode("a.jpg"), UsageError, "expected a sequence of pictures, got one str"),
        (lambda e: e.encode([np.zeros((4, 4), np.uint8)]), ImageError, r"got uint8 \(4, 4\)"),
        (lambda e: e.encode([], batch_size=0), UsageError, "batch_size of at least 1, got 0"),
        (lambda e: e.encode_pixels(np.zeros((1, 8, 8, 3), np.uint8)), UsageError, r"expected pixels \(N, 64, 64, 3\)"),
        (lambda e: e.to("tpu"), UsageError, "expected device 'auto', 'cpu' or 'cuda', got 'tpu'"),
    ],
)
def test_wrong_use_is_told(embedder, act, error, message):
    with pytest.raises(error, match=message):
        act(embedder)


def test_what_is_no_model_is_told(embedder, tmp_path):
    with pytest.raises(WeightsError, match="expected a folder with config.json"):
        Embedder.load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="to ship with this install"):
        Embedder.load("no-such-name")
    with pytest.raises(WeightsError, match="expected config.json and model.safetensors"):
        Embedder.load(tmp_path)
    embedder.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    sound = config.read_text()
    for broken in ("", "[]", "{}", sound.replace('"format": 1', '"format": 99'), sound.replace("CCTT", "CXTT")):
        config.write_text(broken)
        with pytest.raises((WeightsError, UsageError), match="expected"):
            Embedder.load(tmp_path / "model")
    config.write_text(sound)
    weights = tmp_path / "model" / "model.safetensors"
    state = load_file(weights)
    save_file({key: value for key, value in state.items() if "projection" not in key}, weights)
    with pytest.raises(WeightsError, match="expected weights that fit"):
        Embedder.load(tmp_path / "model")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="files that do not parse"):
        Embedder.load(tmp_path / "model")
