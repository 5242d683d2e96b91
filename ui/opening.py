"""The index that a command works on: opened, or made where there is none."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import IndexFolderError, UsageError
from ui.options import Device

if TYPE_CHECKING:
    from indexer import Index
    from retrieval import Embedder


def open_index(
    folder: Path, device: Device = Device.auto, *, model: str | None = None, snapshot: int | None = None
) -> "Index":
    """The index in `folder`, as it is or as it was at a `snapshot`; `model` says where its model lies now, if given.

    Raises `IndexFolderError` with the command that makes one where there is none, `WeightsError` where no model lies,
    `MismatchError` where another does.
    """
    from indexer import Index

    refuse_missing(folder)
    return Index.open(folder, _loaded(model, device), device=device.value, snapshot=snapshot)


def refuse_missing(folder: Path) -> None:
    """Raise `IndexFolderError`, with the command that makes one, where there is no index in `folder`."""
    from indexer.storage import manifest

    if not manifest.exists(folder):
        make = shlex.join(["spyglass", "index", "PICTURES", "--index", str(folder)])
        raise IndexFolderError(f"expected an index at {folder}, found none; make one with: {make}")


def open_or_create(
    folder: Path, model: str | None, device: Device, *, index_type: str | None, token_bytes: int | None
) -> "Index":
    """The index in `folder`, made where there is none; raises `UsageError` for what only a new one takes."""
    from indexer import Index
    from indexer.storage import manifest
    from retrieval import Embedder

    if manifest.exists(folder):
        if index_type is not None:
            raise UsageError(f"expected --index-type for a new index alone, got {folder}, which is there; leave it out")
        if token_bytes is not None:
            add = shlex.join(["spyglass", "tokens", "--index", str(folder), "--tokens", str(token_bytes)])
            raise UsageError(f"expected --tokens for a new index alone, got {folder}, which is there; run {add}")
        return open_index(folder, device, model=model)
    options = {"index_type": index_type, "token_bytes": token_bytes}
    given = {name: value for name, value in options.items() if value is not None}
    return Index.create(folder, Embedder.load(model, device=device.value), **given)


def _loaded(model: str | None, device: Device) -> "Embedder | None":
    if model is None:
        return None
    from retrieval import Embedder

    return Embedder.load(model, device=device.value)
