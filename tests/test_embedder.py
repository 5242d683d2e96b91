import io
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from toy import write_pngs

from indexer import Index
from retrieval import Embedder, Embeddings
from retrieval.coatnet import CONFIGS
from retrieval.errors import ImageError, UsageError, WeightsError
from retrieval.images import read_pixels
from retrieval.layers.folding import fold_batch_norms
from retrieval.network import EmbedderConfig, EmbedderNetwork, scale_pixels
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
    # Lengths are spread around the middle, whatever weights the processor has drawn.
    torch.nn.init.normal_(network.dimension.net[-1].weight)
    torch.nn.init.zeros_(network.dimension.net[-1].bias)
    pixels = torch.from_numpy(np.stack([read_pixels(picture, 64) for picture in from_dark_to_bright(12)]))
    with torch.no_grad():
        pooled = network.eval().pool(scale_pixels(pixels)).pooled
        spread, middle = torch.std_mean(network.dimension.net(pooled))
        network.dimension.net[-1].weight.mul_(2 / spread)
        network.dimension.net[-1].bias.sub_(middle * 2 / spread)
    return network


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(small_network(), device="cpu")


def pictures(num: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (50 + i, 70, 3), dtype=np.uint8) for i in range(num)]


def from_dark_to_bright(num: int) -> list[np.ndarray]:
    """Pictures that these models give other lengths."""
    return [picture // 8 + 220 * place // num for place, picture in enumerate(pictures(num))]


def test_a_corrected_projection_survives_saving(tmp_path):
    config = EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=32, projection_hidden=8)
    assert EmbedderConfig.from_dict(config.to_dict()) == config
    assert "projection_hidden" not in replace(config, projection_hidden=0).to_dict(), "older fingerprints stay"
    network = EmbedderNetwork(config).eval()
    torch.nn.init.normal_(network.projection.correction[-1].weight, std=0.1)
    Embedder(network, device="cpu").save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model", device="cpu")
    weight = network.projection.correction[-1].weight
    torch.testing.assert_close(loaded.network.projection.correction[-1].weight, weight.half().float(), rtol=0, atol=0)
    with pytest.raises(UsageError, match="expected a projection_hidden of 0 .linear. or more, got -1"):
        replace(config, projection_hidden=-1)


def test_a_bend_survives_saving(tmp_path):
    network = small_network(bent_lengths=True)
    network.dimension.bend.slopes.copy_(torch.tensor([2.0, 0.5, 4.0]))
    network.dimension.bend.knots.copy_(torch.tensor([-1.0, 1.0]))
    bent = Embedder(network, device="cpu")
    bent.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model", device="cpu")
    assert loaded.config == network.config and loaded.fingerprint == bent.fingerprint
    for name, value in network.dimension.bend.state_dict().items():
        assert torch.equal(loaded.network.dimension.bend.state_dict()[name], value)
    straight = Embedder(small_network(), device="cpu")
    dims = [model.encode(from_dark_to_bright(12)).dims for model in (loaded, straight)]
    assert dims[0].tolist() != dims[1].tolist() and dims[0].argmax() == dims[1].argmax()


def test_vectors_are_the_full_ones_cut_at_dims_and_normalised_there(embedder):
    found = embedder.encode(from_dark_to_bright(5))
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


def test_pictures_may_come_one_by_one(embedder, tmp_path):
    write_pngs(tmp_path, range(3))
    paths = sorted(tmp_path.glob("*.png"))
    expected = embedder.encode(paths).full
    np.testing.assert_array_equal(embedder.encode(path for path in paths).full, expected)
    np.testing.assert_array_equal(embedder.encode(dict.fromkeys(paths).keys()).full, expected)


def test_pixels_may_be_mirrored_or_kept_from_writing(embedder, recwarn):
    pixels = np.stack([read_pixels(picture, 64) for picture in pictures(2)])
    mirrored = embedder.encode_pixels(pixels[:, :, ::-1])
    np.testing.assert_array_equal(mirrored.full, embedder.encode_pixels(pixels[:, :, ::-1].copy()).full)
    pixels.flags.writeable = False
    embedder.encode_pixels(pixels)
    assert not recwarn.list


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


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_not_loaded(embedder, tmp_path, value):
    embedder.save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["projection.bias"][0] = value
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        WeightsError, match="^expected finite weights in .*, got NaN or infinity; train the embedder again$"
    ):
        Embedder.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), 65520.0, -1e5])
def test_weights_that_float16_cannot_keep_are_not_saved(tmp_path, value):
    network = small_network()
    with torch.no_grad():
        network.projection.bias[0] = value
    with pytest.raises(
        WeightsError, match="^expected finite weights of at most 65,504, as float16 .*, got others in projection.bias; "
    ):
        Embedder(network).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with torch.no_grad():
        network.projection.bias[0] = -65504.0
    Embedder(network).save(tmp_path / "model")
    assert Embedder.load(tmp_path / "model").network.projection.bias[0] == -65504.0


def test_saved_it_goes_by_its_folder_unless_it_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh, named = Embedder(small_network()), Embedder(small_network(), name="mine")
    assert (fresh.name, named.name) == ("unsaved", "mine")
    for embedder in (fresh, named):
        embedder.save("model")
        embedder.save(tmp_path / "copy")
    assert (fresh.name, named.name) == (str(tmp_path / "model"), "mine")
    assert Embedder.load("model").name == fresh.name
    index = Index.create("p.index", fresh)
    index.add(write_pngs(tmp_path / "photos", range(2)), num_workers=0)
    assert len(Index.open("p.index").search(tmp_path / "photos" / "000.png")) == 2


@pytest.mark.parametrize("notes", [{"data": Path("x")}, {("a", "b"): 1}])
def test_notes_that_are_no_json_are_told_before_anything_is_written(embedder, tmp_path, notes):
    with pytest.raises(UsageError, match="^expected notes that JSON can hold, got others: .*; make them text or numbe"):
        embedder.save(tmp_path / "model", notes=notes)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("num_written", [0, 1])
def test_a_disk_that_fills_leaves_the_earlier_model(embedder, tmp_path, monkeypatch, num_written):
    embedder.save(tmp_path, notes={"recipe": "first"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fsync = Mock(side_effect=[None] * num_written + [OSError("no space left on device")])
    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="no space left"):
        Embedder(small_network(token_dim=8)).save(tmp_path)
    assert fsync.call_count == num_written + 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


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
    assert joined == joined != parts[0] and len({joined, *parts}) == 3  # one is another, whatever their numbers


@pytest.fixture(scope="module")
def embedder_with_tokens() -> Embedder:
    # So short that their lengths rather than the map's 16 locations say how many tokens there are.
    return Embedder(small_network(token_dim=8, min_dim=1, max_dim=128), device="cpu")


def test_the_more_numbers_the_more_tokens(embedder_with_tokens):
    found = embedder_with_tokens.encode(from_dark_to_bright(12), token_bytes=4096)
    assert found.tokens.values.shape == (found.tokens.counts.sum(), 8) == (len(found.token_places), 8)
    assert found.tokens.counts.tolist() == np.ceil(found.dims / 8).clip(1, 16).astype(int).tolist()
    assert len(set(found.tokens.counts.tolist())) >= 4


def test_tokens_are_of_the_most_attended_locations(embedder_with_tokens):
    images = from_dark_to_bright(6)
    found = embedder_with_tokens.encode(images, token_bytes=48)
    assert found.tokens.counts.max() == 6
    pixels = np.stack([read_pixels(image, 64) for image in images])
    with torch.no_grad():
        every_NLD = embedder_with_tokens.network(scale_pixels(torch.from_numpy(pixels))).tokens
    stored_NTD, mask_NT = found.tokens.padded()
    ends = found.tokens.offsets[1:-1]
    for attention, places, stored_TD, every_LD, mask_T in zip(
        found.attention, np.split(found.token_places, ends), stored_NTD, every_NLD, mask_NT, strict=True
    ):
        assert places.tolist() == np.argsort(-attention.ravel(), kind="stable")[: len(places)].tolist()
        assert (stored_TD[mask_T] * every_LD[places]).sum(1).min() > 0.99  # bfloat16 and a byte a number


def test_tokens_take_no_more_bytes_than_they_may(embedder_with_tokens):
    images = from_dark_to_bright(4)
    for token_bytes in (8, 20, 64):
        tokens = embedder_with_tokens.encode(images, token_bytes=token_bytes).tokens
        assert 0 < tokens.counts.max() * 8 <= token_bytes
    without = embedder_with_tokens.encode(images, token_bytes=0)
    assert without.tokens is None and without.token_places is None


def test_tokens_of_batches_are_one_after_the_other(embedder_with_tokens):
    images = from_dark_to_bright(7)
    whole = embedder_with_tokens.encode(images, batch_size=7)
    parts = [embedder_with_tokens.encode(images[start : start + 3]) for start in (0, 3, 6)]
    joined = Embeddings.concatenate(parts)
    assert joined.tokens.values.tolist() == [row for part in parts for row in part.tokens.values.tolist()]
    assert joined.token_places.tolist() == [place for part in parts for place in part.token_places.tolist()]
    assert len(joined.tokens) == 7
    # bfloat16 sums in another order: places may swap and a length may be rounded to its neighbour, the rest is alike.
    assert np.abs(joined.tokens.counts - whole.tokens.counts).max() <= 1
    (joined_NTD, _), (whole_NTD, _) = joined.tokens.padded(), whole.tokens.padded()
    cosines_NTT = torch.nn.functional.normalize(joined_NTD, dim=-1) @ whole_NTD.mT
    assert (cosines_NTT[:, 0].amax(1) > 0.99).all()
    mixed = Embeddings.concatenate([parts[0], embedder_with_tokens.encode(images[3:], token_bytes=0)])
    assert mixed.tokens is None and mixed.token_places is None and len(mixed) == 7


def test_no_pictures_have_no_tokens(embedder, embedder_with_tokens):
    none = embedder_with_tokens.encode([])
    assert len(none.tokens) == 0 and none.tokens.values.shape == (0, 8) and none.token_places.shape == (0,)
    assert embedder_with_tokens.encode([], token_bytes=0).tokens is None and embedder.encode([]).tokens is None


def test_an_embedder_without_tokens_gives_none(embedder, embedder_with_tokens):
    assert (embedder.token_dim, embedder_with_tokens.token_dim) == (0, 8)
    found = embedder.encode(pictures(2))
    assert found.tokens is None and found.token_places is None


def test_tokens_are_saved_with_the_rest(embedder_with_tokens, tmp_path):
    embedder_with_tokens.save(tmp_path)
    loaded = Embedder.load(tmp_path, device="cpu")
    assert loaded.token_dim == 8 and loaded.fingerprint == embedder_with_tokens.fingerprint
    weight = embedder_with_tokens.network.tokens.projection.weight
    torch.testing.assert_close(loaded.network.tokens.projection.weight, weight.half().float(), rtol=0, atol=0)


def test_weights_without_tokens_keep_the_fingerprint_that_they_had(embedder, embedder_with_tokens):
    without, having = EmbedderConfig().to_dict(), EmbedderConfig(token_dim=8).to_dict()
    assert "token_dim" not in without and having["token_dim"] == 8
    assert EmbedderConfig.from_dict(without) == EmbedderConfig() != EmbedderConfig.from_dict(having)
    assert EmbedderConfig.from_dict(having) == EmbedderConfig(token_dim=8)
    assert not any(key.startswith("tokens") for key in embedder.network.state_dict())
    assert embedder.fingerprint != embedder_with_tokens.fingerprint


def test_shipped_weights_load_by_default():
    embedder = Embedder.load(device="cpu")
    assert embedder.name == "default"
    assert embedder.widths == (32, 64, 128, 256, 512)


def test_a_folder_in_the_working_directory_is_no_default(embedder, tmp_path, monkeypatch):
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    shipped = Embedder.load(device="cpu")
    named = Embedder.load("default", device="cpu")
    assert shipped.name == named.name == "default" and shipped.fingerprint == named.fingerprint
    for folder in ("./default", Path("default")):
        with pytest.raises(WeightsError, match="expected config.json and model.safetensors in default"):
            Embedder.load(folder)
    embedder.save("default")
    for folder in ("./default", Path("default")):
        loaded = Embedder.load(folder, device="cpu")
        assert loaded.name == str(tmp_path / "default") and loaded.fingerprint == embedder.fingerprint


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda e: e.encode("a.jpg"), UsageError, "expected a sequence of pictures, got one str"),
        (lambda e: e.encode(bytearray(b"png")), UsageError, "^expected a sequence of pictures, got one bytearray; put"),
        (lambda e: e.encode(memoryview(b"png")), UsageError, "^expected a sequence of pictures, got one memoryview;"),
        (
            lambda e: e.encode(np.zeros((4, 4, 3), np.uint8)),
            UsageError,
            "^expected a seq.*, got one ndarray; put it in a",
        ),
        (lambda e: e.encode(7), UsageError, "^expected a sequence of pictures, got one int;"),
        (lambda e: e.encode([np.zeros((4, 4), np.uint8)]), ImageError, r"got uint8 \(4, 4\)"),
        (
            lambda e: e.encode([*pictures(3), b"text"], batch_size=2),
            ImageError,
            "^picture 3: expected a JPEG, .* picture, got ",
        ),
        (
            lambda e: e.encode(["no.png"]),
            ImageError,
            r"^picture 0 \(no.png\): expected a readable picture, got no.png: No",
        ),
        (lambda e: e.encode([], batch_size=0), UsageError, "batch_size of at least 1, got 0"),
        (lambda e: e.encode_pixels(np.zeros((1, 8, 8, 3), np.uint8)), UsageError, r"expected pixels \(N, 64, 64, 3\)"),
        (
            lambda e: e.encode_pixels([np.zeros((64, 64, 3))]),
            UsageError,
            r"^expected an array \(N, 64, .*, got a list$",
        ),
        (
            lambda e: EmbedderConfig(token_dim=-1),
            UsageError,
            r"^expected a token_dim of 0 \(no tokens\) or more, got -1$",
        ),
        (lambda e: e.to("tpu"), UsageError, "expected device 'auto', 'cpu' or 'cuda', got 'tpu'"),
        (lambda e: e.to("cpu:x"), UsageError, "expected device 'auto', 'cpu' or 'cuda', got 'cpu:x'"),
    ],
)
def test_wrong_use_is_told(embedder, act, error, message):
    with pytest.raises(error, match=message):
        act(embedder)


@pytest.mark.parametrize("token_bytes", [-1, 7, 4097])
def test_bytes_that_tokens_cannot_take_are_told(embedder_with_tokens, token_bytes):
    with pytest.raises(UsageError, match=rf"^expected token_bytes of 0, or from 8 .* to 4096, got {token_bytes}$"):
        embedder_with_tokens.encode(pictures(1), token_bytes=token_bytes)


def test_what_is_no_model_is_told(embedder, tmp_path):
    with pytest.raises(WeightsError, match="expected a folder with config.json"):
        Embedder.load(tmp_path / "nowhere")
    with pytest.raises(
        WeightsError, match="^expected 'default', or a folder .*, got 'no-such-name', which is neither$"
    ):
        Embedder.load("no-such-name")
    with pytest.raises(WeightsError, match="got 'defualt', which is neither; did you mean 'default'.$"):
        Embedder.load("defualt")
    with pytest.raises(WeightsError, match="^expected 'default', or a folder .*, got an empty name$"):
        Embedder.load("")
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
