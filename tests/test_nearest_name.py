"""What may have been meant by a name that is none."""

from retrieval.nearest_name import did_you_mean, nearest


def test_the_most_alike_is_meant_in_whatever_case():
    names = ("Softmax", "triplet", "supcon")
    assert nearest("SOFT_MAX", names) == "Softmax" and nearest("tripplet", names) == "triplet"
    assert nearest("magnet", names) is None and nearest("", names) is None and nearest(7, ["17", "27a"]) == "17"
    assert did_you_mean("supkon", names) == "; did you mean 'supcon'?" and did_you_mean("magnet", ()) == ""
