"""Which ids a name that is none is likely to have meant."""

import pyarrow as pa
import pytest

from indexer.closest_ids import closest

IDS = pa.chunked_array([["boats/01.jpg", "boats/02.jpg"], ["other/9901.png", "query.jpg", "schooner/image_0001"]])


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("nope.jpg", ""),  # an ending makes nothing alike
        ("boats/99.jpg", "; the closest are 'boats/02.jpg', 'boats/01.jpg'"),  # although 9901 has it in its name
        ("photos/boats/01.jpg", "; the closest is 'boats/01.jpg'"),
        ("quer.png", "; the closest is 'query.jpg'"),
        ("schooner/image_001", "; the closest is 'schooner/image_0001'"),
        ("", ""),
        ("\udcff", ""),
    ],
)
def test_closest(name, end):
    assert closest(name, IDS) == end


def test_ids_that_differ_in_their_ending_alone():
    ids = pa.chunked_array([["a/cat.jpg", "a/cat.png", "dog.png"]])
    assert closest("a/cat.webp", ids) == "; the closest are 'a/cat.jpg', 'a/cat.png'"
    assert closest("cat.jpg", pa.chunked_array([[]], pa.string())) == ""
