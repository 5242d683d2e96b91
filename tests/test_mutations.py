"""The damaged files that other tests throw at everything: always the same, and never whole."""

from collections import Counter
from itertools import islice

import mutations
from hypothesis import given
from hypothesis import strategies as st
from mutations import hostile_pictures, mutated, whole_pictures
from PIL import Image


@given(data=st.binary(), seed=st.integers(), other=st.binary())
def test_a_mutation_is_another_file_and_always_the_same(data, seed, other):
    result = mutated(data, seed, other=other)
    assert result != data and result == mutated(data, seed, other=other)


def test_seeds_differ():
    data = dict(whole_pictures())["0.jpg"]
    assert len({mutated(data, seed) for seed in range(200)}) > 190


def test_hostile_pictures_are_the_same_again_under_names_of_their_own():
    first, again = (list(islice(hostile_pictures(7), 300)) for _ in range(2))
    assert first == again
    assert len({name for name, _ in first}) == 300
    other = list(islice(hostile_pictures(8), 300))
    assert first[:30] == other[:30] and first[100:] != other[100:]


def test_every_format_is_among_them():
    endings = Counter(name.rpartition(".")[2] for name, _ in islice(hostile_pictures(0), 600))
    assert {suffix[1:] for suffix in mutations.SUFFIXES.values()} <= endings.keys()


def test_without_photos_pictures_are_drawn():
    drawn = mutations._drawings()
    assert len(drawn) == 3 and all(isinstance(image, Image.Image) for image in drawn)
