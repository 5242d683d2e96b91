"""Where the rankers for an index lie: its own by their names, and the one beside its model's weights; without torch."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.own_model import is_folder
from indexer.storage import durable
from indexer.storage.records import Model
from retrieval.errors import IndexFolderError, WeightsError
from retrieval.shipped import shipped

RANKERS = "rankers"
"""The folder of an index's own rankers, such as those of its users, by name."""

DEFAULT = "default"
"""The name of the ranker beside the shipped weights, which no other one may have."""

NAME = re.compile(r"\w[\w.-]*")
"""What a ranker of an index may be called; one that is being written, `.NAME.new`, is not called so."""

_ASIDE = re.compile(r"\.(\w[\w.-]*)\.old")


def names(folder: Path) -> list[str]:
    """The names of the own rankers of the index in `folder`, in order."""
    found = {path.parent.name for path in (folder / RANKERS).glob("*/config.json")}
    return sorted({_ASIDE.sub(r"\1", name) for name in found if NAME.fullmatch(name) or _ASIDE.fullmatch(name)})


def own(folder: Path, name: str) -> Path | None:
    """Where one of the index's own lies; None where there is none of that name."""
    if not NAME.fullmatch(name):
        return None
    # The second is there instead of the first when `replacing` was cut short between two renames.
    places = (folder / RANKERS / name, folder / RANKERS / f".{name}.old")
    return next((place for place in places if (place / "config.json").is_file()), None)


def beside(model: str) -> Path | None:
    """Where the ranker beside the weights of a model lies, which is a folder or the name of shipped weights, if any."""
    try:
        place = Path(model) / "ranker" if is_folder(model) else shipped(f"weights/{model}/ranker")
    except WeightsError:  # this install lacks it, which is no reason to stop
        return None
    return place if (place / "config.json").is_file() else None


def written(place: Path) -> int:
    """When a ranker's weights were written, in ns since 1970: it may be trained on while the index is open.

    0 where there are none.
    """
    try:
        return (place / "model.safetensors").stat().st_mtime_ns
    except OSError:
        return 0


def all_written(folder: Path, model: Model) -> tuple[tuple[str, int], ...]:
    """Where each ranker for an index lies, its own ones and its model's, and when its weights were written."""
    places = [*(own(folder, name) for name in names(folder)), beside(model.name)]
    return tuple((str(place), written(place)) for place in places if place is not None)


def known(folder: Path, model: Model) -> list[str]:
    """What rankers there are for an index, as `Index.search` takes them: the own ones' names, then the model's."""
    fitting = [name for name in names(folder) if _embedder_of(own(folder, name)) == model.fingerprint]
    place = beside(model.name)
    if place is None or _embedder_of(place) != model.fingerprint:
        return fitting
    default = str(place) if is_folder(model.name) else model.name
    return [*fitting, *({default} - {*fitting})]


def foreign(folder: Path, model: Model) -> list[str]:
    """The names of the own rankers that were trained for another model: the index had it before, or was copied."""
    return [name for name in names(folder) if _embedder_of(own(folder, name)) not in (model.fingerprint, None)]


def problems(folder: Path) -> Iterator[str]:
    """Say which of the index's own rankers cannot be read; yields nothing where all can."""
    from safetensors import SafetensorError, safe_open

    for name in names(folder):
        place = own(folder, name)
        if _embedder_of(place) is None:
            yield f"{RANKERS}/{name}/config.json: expected the settings of a ranker, got something else"
        try:
            with safe_open(place / "model.safetensors", framework="numpy") as weights:
                for key in weights.keys():
                    weights.get_tensor(key)
        except (OSError, SafetensorError) as error:
            yield f"{RANKERS}/{name}/model.safetensors: expected the weights of a ranker, got: {error}"


@contextmanager
def replacing(folder: Path, name: str) -> Iterator[Path]:
    """A new folder to write an index's ranker `name` into: it takes the place of an earlier one once all is written.

    A crash at any instant leaves the earlier one or the new one. Raises `IndexFolderError`.
    """
    new = folder / RANKERS / f".{name}.new"
    with _writing(new.parent):
        new.parent.mkdir(exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
    try:
        yield new
        with _writing(new.parent):
            _put_in_place(new, name)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_in_place(new: Path, name: str) -> None:
    for path in new.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    durable.sync_folder(new)
    place, aside = new.with_name(name), new.with_name(f".{name}.old")
    if place.exists():
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
    new.rename(place)
    durable.sync_folder(new.parent)
    durable.sync_folder(new.parent.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _writing(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IndexFolderError(f"expected to write to {home}, but cannot: {error.strerror or error}") from None


def _embedder_of(place: Path) -> str | None:
    """The fingerprint of the model that a ranker was trained for; None where its config.json does not say."""
    try:
        return json.loads((place / "config.json").read_text())["embedder"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
