"""What is said where a package is missing that only some of Spyglass needs."""

import importlib
import sys

import pytest

from retrieval.errors import MissingExtraError
from retrieval.extras import packages_for


def test_the_extra_is_named():
    with pytest.raises(MissingExtraError) as raised, packages_for("dreams", extra="dream"):
        import sheep  # noqa: F401
    assert str(raised.value) == (
        "expected the packages for dreams, found them incomplete (No module named 'sheep'); "
        "pip install 'spyglass-image-search[dream]'"
    )


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), packages_for("dreams", extra="dream"):
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("retrieval.train_embedder", "retrieval.training.learner", "train"),
        ("retrieval.train_jointly", "retrieval.training.joint_learner", "train"),
        ("ui.page.server", "streamlit", "ui"),
    ],
)
def test_a_module_without_its_packages(monkeypatch, module, package, extra):
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"found them incomplete \(.*\[{extra}\]'$"):
        importlib.import_module(module)
