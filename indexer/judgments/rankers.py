"""Which ranker a search uses: one of the index's own, a shipped one, or a folder; always one for the index's model."""

import logging
from pathlib import Path
from typing import Any

from indexer.judgments import ranker_choice, ranker_folders
from indexer.own_model import is_folder
from indexer.storage.records import Model
from retrieval.errors import MismatchError, UsageError, WeightsError
from retrieval.nearest_name import did_you_mean
from retrieval.ranker_weights import Ranker

_log = logging.getLogger(__name__)


class Rankers:
    """The rankers at hand for the index in `folder`, made with `model`; each is read once."""

    def __init__(self, folder: Path, model: Model):
        self._folder = folder
        self._model = model
        self._loaded: dict[Path, tuple[int, Ranker]] = {}
        self._passed_over: set[str] = set()

    def default(self) -> Ranker | None:
        """The ranker beside the weights of the index's model, shipped or a folder; None where there is none for it."""
        place = ranker_folders.beside(self._model.name)
        ranker = None if place is None else self._load(place, self._model.name)
        return ranker if ranker is not None and ranker.embedder == self._model.fingerprint else None

    def in_use(self) -> Ranker | None:
        """The one that was chosen for the index; the default one where none was, or it is gone or for another model.

        A choice that is passed over is said in the log, once.
        """
        name = ranker_choice.read(self._folder)
        if name is None:
            return self.default()
        place = self._place_of(name)
        ranker = None if place is None else self._load(place, name)
        if ranker is not None and ranker.embedder == self._model.fingerprint:
            return ranker
        default = self.default()
        if name not in self._passed_over:
            self._passed_over.add(name)
            why = "is not there any more" if ranker is None else "was trained for another model"
            instead = "similarity alone orders" if default is None else f"{default.name} re-ranks"
            _log.warning("the ranker in use, %r, %s: %s the hits", name, why, instead)
        return default

    def find(self, ranker: Any = None) -> Ranker:
        """A `Ranker` as it is, or by its name among the index's own, then the shipped ones, or else a folder.

        None is the one in use. Raises `UsageError` where there is none, `WeightsError` for what is no ranker,
        `MismatchError` for one that was trained for another model than the index's.
        """
        if ranker is None:
            ranker = self.in_use()
            if ranker is None:
                raise UsageError(
                    f"expected a ranker beside the model of {self._folder}, {self._model.name}, found none; "
                    "name one, or train one with: spyglass train ranker"
                )
        if not isinstance(ranker, Ranker):
            ranker = self._named(str(ranker))
        if ranker.embedder != self._model.fingerprint:
            model = f"{self._model.name} ({self._model.fingerprint[:12]})"
            raise MismatchError(
                f"expected a ranker trained for the model of {self._folder}, {model}, got {ranker.name}, trained for "
                f"another ({ranker.embedder[:12]}); choose one for that model, or train one with: spyglass train ranker"
            )
        return ranker

    def _place_of(self, name: str) -> Path | None:
        place = ranker_folders.own(self._folder, name)
        if place is None and "/" not in name and "\\" not in name:
            place = ranker_folders.beside(name)
        return Path(name) if place is None and name and Path(name).is_dir() else place

    def _named(self, name: str) -> Ranker:
        place = self._place_of(name)
        if place is None:
            known = ranker_folders.known(self._folder, self._model)
            there_are = ", ".join(map(repr, known)) or "none yet"
            raise WeightsError(
                f"expected the name of a ranker of {self._folder} ({there_are}), or a folder with its config.json and "
                f"model.safetensors, got {name!r}{did_you_mean(name, known)}"
            )
        return self._load(place, name)

    def _load(self, folder: Path, name: str) -> Ranker:
        """The ranker in `folder`, which goes by `name` where that is no folder itself."""
        written = ranker_folders.written(folder)  # of what has no weights, the loading below tells what is wrong
        if folder not in self._loaded or self._loaded[folder][0] != written:
            ranker = Ranker.load(folder)
            ranker.name = ranker.name if is_folder(name) or folder == Path(name) else name
            self._loaded[folder] = written, ranker
        return self._loaded[folder][1]
