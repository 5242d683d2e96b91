"""What is asked on the search page, and its URL: the same both ways, whatever stands in the URL."""

import json
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.page.query_state import NUM_HITS, QueryState, image_of, image_ref, upload_of, upload_ref

SHA = "0123456789abcdef" * 4
refs = st.one_of(st.text(min_size=1, max_size=8).map(image_ref), st.just(upload_ref(SHA)))
rules = st.one_of(
    st.lists(st.one_of(st.text(max_size=5), st.integers(-9, 9), st.booleans()), min_size=1, max_size=3),
    st.fixed_dictionaries({"gte": st.integers(-9, 9)}, optional={"lte": st.floats(-9, 9)}),
)
states = st.builds(
    QueryState,
    like=st.lists(refs, max_size=3).map(tuple),
    unlike=st.lists(refs, max_size=3).map(tuple),
    crop=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99), st.integers(1, 99)),
    where=st.dictionaries(st.text(max_size=5), rules, max_size=2),
    num_hits=st.sampled_from(NUM_HITS),
    page=st.integers(0, 99),
    min_score=st.none() | st.sampled_from([-0.5, 0.05, 0.25, 1.0]),
    rerank=st.booleans(),
    ranker=st.none() | st.text(min_size=1, max_size=5),
    shows_attention=st.booleans(),
    seed=st.integers(0, 99),
)


@given(states)
def test_there_and_back(state):
    params = parse_qs(urlencode(state.to_params(), doseq=True, errors="surrogatepass"), errors="surrogatepass")
    assert QueryState.from_params(params) == state
    assert parse_qs(state.to_text()) == params


@given(st.dictionaries(st.sampled_from([*QueryState().__dict__, "k", "min", "look"]), st.lists(st.text(), max_size=2)))
def test_any_url_is_read(params):
    state = QueryState.from_params(params)
    assert QueryState.from_params(state.to_params()) == state


@given(st.text())
def test_references_tell_images_from_uploads(image_id):
    assert upload_of(image_ref(image_id)) is None and image_of(image_ref(image_id)) == image_id
    assert upload_of(upload_ref(SHA)) == SHA


def test_nothing_asked_is_an_empty_url():
    assert QueryState().to_params() == {} and QueryState.from_params({}) == QueryState()


def test_a_url_by_hand():
    state = QueryState(like=("a b.jpg", "@" + SHA), where={"label": ["cat"]}, num_hits=48, rerank=False)
    assert state.to_params() == {
        "like": ["a b.jpg", "@" + SHA],
        "where": ['{"label":["cat"]}'],
        "k": ["48"],
        "rerank": ["off"],
    }


@pytest.mark.parametrize(
    "params",
    [
        {"crop": ["1,2,3"], "like": ["a"]},
        {"crop": ["1,2,0,4"], "like": ["a"]},
        {"crop": ["1,2,3,-4"], "like": ["a"]},
        {"crop": ["1,2,3,4"], "like": ["a", "b"]},
        {"k": ["7"], "page": ["-1"], "seed": ["x"], "min": ["nan"], "like": ["a"]},
        {"where": ['{"label": []}'], "like": ["a"]},
        {"where": ['{"width": {"gte": "many"}}'], "like": ["a"]},
        {"where": ["[" * 10**5], "like": ["a"]},
    ],
)
def test_what_makes_no_sense_is_dropped(params):
    assert QueryState.from_params(params) == QueryState(like=tuple(params["like"]))


def test_what_visitors_do():
    state = QueryState(where={"label": ["x"]}, page=3).only("a")
    assert state == QueryState(where={"label": ["x"]}, like=("a",))
    cropped = state.change(crop=(0, 0, 5, 5))
    assert cropped.less_like("b").crop == (0, 0, 5, 5) and cropped.more_like("b").crop is None
    both = state.more_like("b").less_like("c")
    assert (both.like, both.unlike) == (("a", "b"), ("c",))
    assert (both.less_like("b").like, both.less_like("b").unlike) == (("a",), ("c", "b"))
    assert (both.more_like("c").like, both.more_like("c").unlike) == (("a", "b", "c"), ())
    assert both.without("b").like == ("a",) and not both.without("a").without("b").is_asked
    assert both.turn_to(2).page == 2 and both.turn_to(-1).page == 0 and both.turn_to(2).only("d").page == 0
    assert json.loads(both.to_params()["where"][0]) == {"label": ["x"]}
