"""Where the lists of `train ranker` come from: labelled pictures, and what was judged in an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from retrieval import Embedder
from retrieval.datasets import LabelledImages
from retrieval.errors import UsageError
from retrieval.reranking.metadata import MetadataColumns
from retrieval.tokens import MAX_TOKEN_BYTES
from retrieval.training.ranker_examples import RankingExamples
from ui.commands.picture_sets import training_sets
from ui.commands.ranking_sets import every_fifth_apart, found_examples, shares_of
from ui.opening import open_index
from ui.options import Device
from ui.printing import one_line

if TYPE_CHECKING:
    from indexer import Index


@dataclass(frozen=True, kw_only=True, eq=False)
class Lists:
    """Sets of lists to train and to validate on; `shares`: of each training set in every step."""

    training: list[RankingExamples]
    validation: list[RankingExamples]
    shares: list[float]


@dataclass(kw_only=True)
class RankerSources:
    """The options of `train ranker` that say what to learn from, and what they name, read when it is first needed."""

    data: Sequence[str]
    validation_data: Sequence[str]
    label_column: str
    columns: Sequence[str]
    model: str | None
    feedback: Path | None
    user: str | None
    num_candidates: int
    token_bytes: int
    device: Device
    judged_share: float
    per_class: Sequence[int] = ()
    num_skipped: int = 0

    @cached_property
    def index(self) -> "Index | None":
        """The index with the judgments; raises `MismatchError` if a model is named, and it is not the index's."""
        return None if self.feedback is None else open_index(self.feedback, self.device, model=self.model)

    @cached_property
    def embedder(self) -> Embedder:
        """The one that was named, or the index's; raises `UsageError` for one without tokens, or bytes for none."""
        index = self.index
        embedder = Embedder.load(self.model, device=self.device.value) if index is None else index.embedder
        if not embedder.token_dim:
            raise UsageError(f"expected a model with local tokens, got {embedder.name}, which has none; choose another")
        if not embedder.token_dim <= self.token_bytes <= MAX_TOKEN_BYTES:
            raise UsageError(
                f"expected --token-bytes from {embedder.token_dim} (one token) to {MAX_TOKEN_BYTES}, "
                f"got {self.token_bytes}"
            )
        return embedder

    @cached_property
    def labelled(self) -> tuple[LabelledImages, LabelledImages]:
        """Pictures to train and to validate on."""
        training, validation, num_skipped = training_sets(
            self.data,
            validation_sources=self.validation_data,
            image_size=self.embedder.image_size,
            label_column=self.label_column,
            columns=self.columns,
        )
        self.num_skipped += num_skipped
        return training, validation

    def found(
        self,
        embedder: Embedder,
        images: LabelledImages,
        metadata: MetadataColumns,
        *,
        guards: bool,
        per_class: Sequence[int] = (),
    ) -> list[RankingExamples]:
        """Labelled pictures with what an index of them finds; `guards` and `per_class` as for `found_examples`."""
        return found_examples(
            embedder,
            images,
            metadata,
            num_candidates=self.num_candidates,
            token_bytes=self.token_bytes,
            guards=guards,
            per_class=per_class,
        )

    def examples(self, embedder: Embedder, metadata: MetadataColumns) -> Lists:
        """Of labels, of judgments, or of both."""
        training, validation, shares = [], [], []
        if self.data:
            pictures_to_train, pictures_to_validate = self.labelled
            training = self.found(embedder, pictures_to_train, metadata, guards=True, per_class=self.per_class)
            validation = self.found(embedder, pictures_to_validate, metadata, guards=False, per_class=self.per_class)
            labelled_share = 1.0 if self.feedback is None else 1 - self.judged_share
            shares = [labelled_share * share for share in shares_of(len(training))]
        if self.index is not None:
            judged_to_train, judged_to_validate = every_fifth_apart(self._judged(metadata))
            training, validation = [*training, judged_to_train], [*validation, judged_to_validate]
            shares = [*shares, self.judged_share if self.data else 1.0]
        return Lists(training=training, validation=validation, shares=shares)

    def _judged(self, metadata: MetadataColumns) -> RankingExamples:
        from indexer.judged_lists import judged_examples

        judged, failures = judged_examples(
            self.index, user=self.user, num_candidates=self.num_candidates, metadata=metadata
        )
        self.num_skipped += len(failures)
        for line in failures:
            typer.echo(f"skipped {one_line(line)}", err=True)
        if judged is None:
            whose = "" if self.user is None else f" by {self.user}"
            raise UsageError(
                f"expected queries in {self.feedback} with an image judged relevant{whose} and one judged not, "
                "got none; record some with spyglass feedback add"
            )
        return judged
