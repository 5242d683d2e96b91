"""Which ranker a search uses: one of the index's own, a shipped one, or a folder; always one for the index's model."""

from pathlib import Path
from typing import Any

from indexer.records import Model
from retrieval.errors import MismatchError, UsageError, WeightsError
from retrieval.ranker_weights import Ranker
from retrieval.shipped import shipped

RANKERS = "rankers"
"""The folder of an index's own rankers, such as those of its users, by name."""


class Rankers:
    """The rankers at hand for the index in `folder`, made with `model`; each is read once."""

    def __init__(self, folder: Path, model: Model):
        self._folder = folder
        self._model = model
        self._loaded: dict[tuple[str, int], Ranker] = {}

    def default(self) -> Ranker | None:
        """The ranker that is shipped beside the weights of the index's model; None where there is none for it."""
        name = self._model.name
        if "/" in name or "\\" in name or not self._is_shipped(name):
            return None
        ranker = self._load(shipped(f"weights/{name}/ranker"))
        return ranker if ranker.embedder == self._model.fingerprint else None

    def find(self, ranker: Any = None) -> Ranker:
        """A `Ranker` as it is, or by its name among the index's own, then the shipped ones, or else a folder.

        None is the default one. Raises `UsageError` where there is none, `WeightsError` for what is no ranker,
        `MismatchError` for one that was trained for another model than the index's.
        """
        if ranker is None:
            ranker = self.default()
            if ranker is None:
                raise UsageError(
                    f"expected a ranker for the model of {self._folder}, {self._model.name}, found none that ships; "
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

    def _named(self, name: str) -> Ranker:
        own = self._folder / RANKERS / name
        if "/" not in name and "\\" not in name:
            if (own / "config.json").is_file():
                return self._load(own)
            if self._is_shipped(name):
                return self._load(shipped(f"weights/{name}/ranker"))
        if Path(name).is_dir():
            return self._load(Path(name))
        raise WeightsError(
            f"expected a ranker's name among {self.names()}, or a folder with its config.json and model.safetensors, "
            f"got {name!r}"
        )

    def names(self) -> list[str]:
        """The names of the index's own rankers, in order."""
        return sorted(path.parent.name for path in (self._folder / RANKERS).glob("*/config.json"))

    def _is_shipped(self, name: str) -> bool:
        try:
            return (shipped(f"weights/{name}/ranker") / "config.json").is_file()
        except WeightsError:  # this install lacks it, which is no reason to stop
            return False

    def _load(self, folder: Path) -> Ranker:
        try:
            written = (folder / "model.safetensors").stat().st_mtime_ns  # it may be trained on while the index is open
        except OSError:
            written = 0  # what is wrong is told by the loading below
        key = (str(folder), written)
        if key not in self._loaded:
            self._loaded[key] = Ranker.load(folder)
        return self._loaded[key]
