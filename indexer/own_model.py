"""The model that an index was made with: loaded from where it lay then, or taken as it is named now."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer.storage.records import Model
from retrieval.errors import MismatchError, UsageError, WeightsError


def load(folder: Path, model: Model, device: str) -> Any:
    """The embedder that bears the name in the manifest of the index in `folder`, the same one or another by now.

    Raises `WeightsError`, which tells what to do where its folder is gone.
    """
    from retrieval import Embedder

    try:
        return Embedder.load(model.name, device=device)
    except WeightsError:
        if not is_gone(model.name):
            raise
        keep = shlex.join(["spyglass", "reencode", "--index", str(folder), "--model"])
        raise WeightsError(
            f"expected the model of {folder} at {model.name}, where it was, found no folder there; say where it lies "
            f"now with --model DIR, or once and for all with: {keep} DIR"
        ) from None


def given(embedder: Any, device: str) -> Any:
    """An embedder as it is, or the one of a name or folder; raises `UsageError` for what is neither, `WeightsError`."""
    if isinstance(embedder, str | os.PathLike):
        from retrieval import Embedder

        return Embedder.load(embedder, device=device)
    if not hasattr(embedder, "fingerprint"):
        raise UsageError(f"expected an embedder, or the name or folder of one, got {embedder!r}; see Embedder.load")
    return embedder


def refuse_other(folder: Path, model: Model, embedder: Any) -> None:
    """Raise `MismatchError` for an embedder that is not the `model` of the index in `folder`, wherever it lies."""
    if embedder.fingerprint != model.fingerprint:
        made, given = f"{model.name} ({model.fingerprint[:12]})", f"{embedder.name} ({embedder.fingerprint[:12]})"
        raise MismatchError(
            f"expected the model that {folder} was built with, {made}, got {given}; use that one, or re-encode with: "
            + shlex.join(["spyglass", "reencode", "--index", str(folder), "--model", embedder.name])
        )


def found_at(model: Model, embedder: Any) -> Model:
    """The model by where it lies now: where `embedder`, which is that very one, was loaded from a folder, there."""
    return replace(model, name=embedder.name) if embedder is not None and is_folder(embedder.name) else model


def is_folder(name: str) -> bool:
    """Whether a model's name is the path of a folder, and not what weights ship under."""
    return "/" in name or "\\" in name


def is_gone(name: str) -> bool:
    """Whether a model's name is the path of a folder that is not there any more."""
    return is_folder(name) and not Path(name).is_dir()
