"""What is said of an index for whose model there is no ranker: its hits are ordered by similarity alone."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from indexer.own_model import is_gone


def ranker_note(facts: Mapping[str, Any], index: Path) -> str | None:
    """What to say of its rankers, by the `facts` of `Index.info`, in a line with the command that helps.

    None where there is a ranker, or there can be none: without tokens, or where nobody knows where the model lies.
    """
    if facts["rankers"] or not facts["token_bytes"] or is_gone(facts["model"]):
        return None
    trained = facts["foreign_rankers"]
    others = f" ({', '.join(trained)}: for another model)" if trained else ""
    train = shlex.join(["spyglass", "train", "ranker", "--feedback", str(index), "--name", "NAME"])
    return f"none for this model{others}: similarity alone orders the hits; train one with: {train} [--data LABELLED]"
