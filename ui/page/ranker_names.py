"""What rankers are called on the page: by their names, but that of the model, wherever it lies, "the model's own"."""

from collections.abc import Sequence

from indexer.judgments.ranker_folders import DEFAULT
from indexer.own_model import is_folder

MODELS_OWN = "the model's own"


def label_of(ranker: str) -> str:
    """What to call one of the `rankers` of `Index.info`."""
    return MODELS_OWN if is_models_own(ranker) else ranker


def is_models_own(ranker: str) -> bool:
    """Whether it is the one beside the weights of the index's model."""
    return ranker == DEFAULT or is_folder(ranker)


def in_use(rankers: Sequence[str], chosen: str | None) -> str:
    """What to call the one that a search uses which names none, where `chosen` was, if anything."""
    if chosen in rankers:
        return label_of(chosen)
    return MODELS_OWN if any(map(is_models_own, rankers)) else "none"
