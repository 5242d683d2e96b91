"""What the tests share: the folder of real images, and the device they run on."""

import os
from collections import Counter
from pathlib import Path

import pytest
from command_line import Answer
from hypothesis import settings

# Beside other workers a second thread only waits; torch and FAISS read this once, when they are first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


# A busy machine is no failure; and where nobody looks for new examples, the same ones are tried each time.
settings.register_profile("spyglass", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("spyglass")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="try every fault at every call, which takes minutes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end, one of them would leave the other workers idle."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and reference numbers beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of real images at {SHARED}")
    return SHARED


@pytest.fixture
def spyglass(capsys):
    """Runs one command line in this process; what came before in the streams is thrown away."""
    from ui import cli

    def call(*arguments) -> Answer:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def device() -> str:
    """Where models and indices run in the tests: TEST_DEVICE, the CPU by default."""
    return os.environ.get("TEST_DEVICE", "cpu")
