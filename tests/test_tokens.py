"""Local tokens: ragged storage that gives each image its own back, one byte a number, and how many an image has."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval.errors import UsageError
from retrieval.tokens import LocalTokens, Tokens, most_attended, num_tokens, quantised, rows_of

ragged = st.lists(st.integers(0, 5), min_size=1, max_size=8).map(lambda counts: made_up(counts))


def made_up(counts: list[int], token_dim: int = 4) -> Tokens:
    """Tokens whose first number says in which place they lie."""
    values = np.random.default_rng(0).integers(-126, 127, (sum(counts), token_dim), dtype=np.int8)
    values[:, 0] = np.arange(1, len(values) + 1)
    return Tokens(values=values, counts=np.array(counts, dtype=np.int64))


def of_each(tokens: Tokens) -> list[np.ndarray]:
    return np.split(tokens.values, np.cumsum(tokens.counts)[:-1])


def test_by_hand():
    values = np.array([[127, 0], [0, -127], [127, 127]], np.int8)
    tokens = Tokens(values=values, counts=np.array([2, 0, 1]))
    assert len(tokens) == 3 and tokens.offsets.tolist() == [0, 2, 2, 3]
    taken = tokens.take([2, 1, 0, 2])
    assert taken.counts.tolist() == [1, 0, 2, 1]
    assert taken.values.tolist() == [[127, 127], [127, 0], [0, -127], [127, 127]]
    for mask, counts in (([True, False, True], [2, 1]), ([False, True, True], [0, 1]), ([False] * 3, [])):
        assert tokens.take(mask).counts.tolist() == tokens.take(np.array(mask)).counts.tolist() == counts
    padded_NTD, mask_NT = tokens.padded()
    half = 0.5**0.5
    torch.testing.assert_close(
        padded_NTD, torch.tensor([[[1.0, 0], [0, -1]], [[0, 0], [0, 0]], [[half, half], [0, 0]]])
    )
    assert mask_NT.tolist() == [[True, True], [False, False], [True, False]]


@given(tokens=ragged, data=st.data())
@settings(deadline=None, max_examples=50)
def test_take_is_what_a_loop_takes(tokens, data):
    # Places may be counted from the end, as numpy does.
    images = data.draw(st.lists(st.integers(-len(tokens), len(tokens) - 1), max_size=10))
    taken = tokens.take(images)
    assert taken.counts.tolist() == [tokens.counts[image] for image in images]
    expected = [row.tolist() for image in images for row in of_each(tokens)[image]]
    assert taken.values.tolist() == expected and taken.values.dtype == np.int8


@given(tokens=ragged)
@settings(deadline=None, max_examples=50)
def test_padded_holds_each_image_s_unit_vectors_and_zeros_after_them(tokens):
    padded_NTD, mask_NT = tokens.padded()
    assert padded_NTD.dtype == torch.float32 and mask_NT.sum(1).tolist() == tokens.counts.tolist()
    for padded_TD, mask_T, rows in zip(padded_NTD, mask_NT, of_each(tokens), strict=True):
        directions = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
        np.testing.assert_allclose(padded_TD[: len(rows)], directions, atol=1e-6)
        assert not padded_TD[len(rows) :].any() and mask_T[: len(rows)].all()


@given(parts=st.lists(ragged, min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_concatenate_keeps_every_image_s(parts):
    joined = Tokens.concatenate(parts)
    assert joined.counts.tolist() == [count for part in parts for count in part.counts]
    expected = [rows.tolist() for part in parts for rows in of_each(part)]
    assert [rows.tolist() for rows in of_each(joined)] == expected


def test_no_images():
    none = Tokens(values=np.zeros((0, 4), np.int8), counts=np.zeros(0, np.int64))
    padded_NTD, mask_NT = none.padded()
    assert len(none) == 0 and padded_NTD.shape == (0, 1, 4) and mask_NT.shape == (0, 1)
    assert len(none.take([])) == len(made_up([2, 1]).take([])) == 0


@given(
    starts=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    data=st.data(),
)
@settings(deadline=None, max_examples=50)
def test_rows_of_is_a_loop_of_ranges(starts, data):
    counts = data.draw(st.lists(st.integers(0, 4), min_size=len(starts), max_size=len(starts)))
    expected = [start + i for start, count in zip(starts, counts, strict=True) for i in range(count)]
    assert rows_of(np.array(starts), np.array(counts)).tolist() == expected


def test_a_byte_a_number_keeps_the_direction():
    tokens_MD = F.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    values = quantised(tokens_MD)
    assert values.dtype == np.int8 and (np.abs(values.astype(int)).max(1) == 127).all()
    stored, _ = Tokens(values=values, counts=np.array([500])).padded()
    assert (stored[0] * tokens_MD).sum(1).min() >= 0.9999


@given(
    tokens_MD=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.just(64)), elements=st.floats(-1, 1, width=32)
    ).filter(lambda tokens: np.linalg.norm(tokens, axis=1).min() > 1e-3)
)
@settings(deadline=None, max_examples=50)
def test_whatever_the_token_its_byte_form_is_within_the_bound(tokens_MD):
    # Each number is off by half a step of 1/127 of the largest, so the whole by √D / 254 of the length at most.
    unit_MD = F.normalize(torch.from_numpy(tokens_MD), dim=1)
    stored, _ = Tokens(values=quantised(unit_MD), counts=np.array([len(unit_MD)])).padded()
    assert (stored[0] * unit_MD).sum(1).min() >= (1 - 64 / 254**2) ** 0.5 - 1e-6


def test_how_many_tokens_by_hand():
    dims = torch.tensor([32, 33, 64, 120, 512])
    settings = {"token_bytes": 1024, "token_dim": 64}
    assert num_tokens(dims, num_locations=49, **settings).tolist() == [4, 5, 8, 15, 16]
    assert num_tokens(dims, num_locations=9, **settings).tolist() == [4, 5, 8, 9, 9]
    assert num_tokens(dims, num_locations=49, token_bytes=64, token_dim=64).tolist() == [1] * 5
    assert num_tokens(torch.tensor([1]), num_locations=49, **settings).tolist() == [1]


@given(
    dims=st.lists(st.integers(1, 512), min_size=2, max_size=9).map(sorted),
    token_dim=st.integers(1, 128),
    token_bytes=st.integers(128, 4096),
    num_locations=st.integers(1, 100),
)
@settings(deadline=None, max_examples=50)
def test_tokens_grow_with_the_dimension_within_their_bytes(dims, token_dim, token_bytes, num_locations):
    settings = {"token_bytes": token_bytes, "token_dim": token_dim, "num_locations": num_locations}
    counts = num_tokens(torch.tensor(dims), **settings)
    assert (counts.diff() >= 0).all() and counts.min() >= 1
    assert counts.max() * token_dim <= token_bytes and counts.max() <= num_locations


def test_padded_takes_arrays_as_they_lie_in_a_file(recwarn):
    tokens = made_up([2, 0, 1])
    values, counts = tokens.values[:, ::-1], tokens.counts.copy()
    values.flags.writeable = counts.flags.writeable = False
    padded_NTD, mask_NT = Tokens(values=values, counts=counts).padded()
    assert torch.equal(mask_NT, tokens.padded()[1])
    torch.testing.assert_close(padded_NTD.flip(-1), tokens.padded()[0])
    assert not recwarn.list


def test_the_most_attended_locations_come_first():
    attention_BHW = torch.tensor([[[0.1, 0.4], [0.3, 0.2]], [[0.25, 0.25], [0.25, 0.25]]])
    places_BT, mask_BT = most_attended(attention_BHW, torch.tensor([3, 1]))
    assert places_BT.tolist() == [[1, 2, 3], [0, 1, 2]]  # of equals, the first
    assert mask_BT.tolist() == [[True, True, True], [True, False, False]]


def test_local_tokens_are_one_linear_map_of_each_location():
    torch.manual_seed(0)
    local = LocalTokens(6, 4)
    features_BCHW = torch.randn(2, 6, 3, 5)
    tokens_BND = local(features_BCHW)
    assert tokens_BND.shape == (2, 15, 4)
    by_itself = F.normalize(local.projection(features_BCHW[1, :, 2, 3]), dim=0)
    torch.testing.assert_close(tokens_BND[1, 2 * 5 + 3], by_itself)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: Tokens(values=np.zeros((3, 4), np.int8), counts=np.array([1, 1])),
            r"^expected tokens \(sum of counts = 2, D\) int8, got \(3, 4\) int8; take them from Embedder.encode$",
        ),
        (lambda: Tokens(values=np.zeros((2, 4), np.float32), counts=np.array([1, 1])), r"got \(2, 4\) float32;"),
        (
            lambda: num_tokens(torch.tensor([40]), token_bytes=63, token_dim=64, num_locations=49),
            r"^expected token_bytes of 0, or from 64 \(one token\) to 4096, got 63$",
        ),
        (lambda: num_tokens(torch.tensor([40]), token_bytes=4097, token_dim=64, num_locations=49), "got 4097$"),
    ],
)
def test_wrong_use_is_told(act, message):
    with pytest.raises(UsageError, match=message):
        act()
