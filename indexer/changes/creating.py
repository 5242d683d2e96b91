"""Making an index: a folder that is free for it, and its first manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indexer.buckets import BucketedIndex
from indexer.storage import manifest
from indexer.storage.durable import sole_writer, sync_folder
from indexer.storage.manifest import LOCK, Manifest
from indexer.storage.records import Model
from retrieval.errors import IndexFolderError, UsageError

_OWN_NAMES = {
    "manifest.json",
    "history",
    "segments",
    "deleted",
    "failures.jsonl",
    "feedback",
    "rankers",
    "draft.json",
    LOCK,
}


def create(
    path: Path, embedder: Any, *, widths: Sequence[int], dtype: str, index_type: str, token_bytes: int
) -> Manifest:
    """Make an empty index at `path`; the arguments and what is raised are those of `Index.create`."""
    # An empty one refuses what a full one would.
    widths = BucketedIndex(widths, dtype=dtype, device="cpu", index_type=index_type).widths
    if widths[-1] != embedder.widths[-1]:
        raise UsageError(f"expected widths up to {embedder.widths[-1]}, the embedder's last one, got {widths}")
    token_bytes = token_bytes_of(embedder, token_bytes)
    make_folder(path)
    with sole_writer(path / LOCK):
        _refuse_occupied(path)
        model = Model(name=embedder.name, fingerprint=embedder.fingerprint, image_size=embedder.image_size)
        state = Manifest(
            version=0,
            when=manifest.now(),
            change="create",
            model=model,
            widths=widths,
            dtype=dtype,
            index_type=index_type,
            token_bytes=token_bytes,
        )
        manifest.publish(path, state)
        sync_folder(path.parent)
    return state


def make_folder(path: Path) -> None:
    """Make a folder for a new index, or take an empty one; raises `IndexFolderError`."""
    _refuse_occupied(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexFolderError(f"expected to make a folder at {path}, but cannot: {error.strerror}") from None


def token_bytes_of(embedder: Any, wanted: int) -> int:
    """How much tokens of this embedder may take where `wanted` is asked for; raises `UsageError`."""
    token_dim = getattr(embedder, "token_dim", 0)
    if not token_dim or wanted == 0:
        return 0
    from retrieval.tokens import MAX_TOKEN_BYTES

    if not token_dim <= wanted <= MAX_TOKEN_BYTES:
        raise UsageError(
            f"expected token_bytes of 0, or from {token_dim} (one token) to {MAX_TOKEN_BYTES}, got {wanted}"
        )
    return wanted


def _refuse_occupied(path: Path) -> None:
    if manifest.exists(path):
        raise IndexFolderError(f"expected no index at {path} yet, found one; open it, or choose another folder")
    if path.exists() and not path.is_dir():
        raise IndexFolderError(f"expected a folder at {path}, found a file; choose another path")
    # What a creation that was cut short has left is ours.
    foreign = {entry.name.removeprefix(".").removesuffix(".new") for entry in _entries(path)} - _OWN_NAMES
    if foreign:
        raise IndexFolderError(f"expected {path} to be empty, found {min(foreign)!r} in it; choose another folder")


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.exists() else []
