"""What the tests share: the folder of real images, and the device they run on."""

import os
from pathlib import Path

import pytest
from command_line import Answer
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"


# A busy machine is no failure; and where nobody looks for new examples, the same ones are tried each time.
settings.register_profile("spyglass", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("spyglass")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="try every fault at every call, which takes minutes")


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
