"""Ctrl-C, at a moment of a test's choosing."""

import signal
from typing import TypeVar

import pytest
from toy import ToyEmbedder

Toy = TypeVar("Toy", bound=ToyEmbedder)


def hears_ctrl_c() -> None:
    """For a child's `preexec_fn`: where tests run in the background of a shell, their children would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def at_third_batch(embedder: Toy) -> Toy:
    """An embedder for batches of three: Ctrl-C comes while the third one is encoded."""
    encode = embedder.encode_pixels

    def encode_pixels(pixels, **options):
        if embedder.encoded == 6:
            raise KeyboardInterrupt
        return encode(pixels, **options)

    embedder.encode_pixels = encode_pixels
    return embedder


def at_first_publish(monkeypatch: pytest.MonkeyPatch, module, *, moment: str) -> None:
    """Ctrl-C comes "before" or "after" `module` publishes its first manifest."""
    publish, calls = module.publish, []

    def interrupted(folder, manifest):
        calls.append(manifest)
        if len(calls) > 1 or moment == "after":
            publish(folder, manifest)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", interrupted)
