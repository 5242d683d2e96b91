"""What people judged in an index, as lists for a ranker to learn from: each query with its candidates there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from indexer.searching.describing import catalog_values, described_queries, described_rows
from indexer.searching.gallery import Gallery
from indexer.searching.judged import judgments_of
from indexer.searching.query import combine
from indexer.searching.query_pixels import pixels_of
from indexer.searching.reranking import SAME_PICTURE
from retrieval.errors import ImageError, IndexFolderError
from retrieval.reranking.described import similarity
from retrieval.reranking.feedback_features import feedback_features
from retrieval.reranking.metadata import MetadataColumns
from retrieval.training.ranker_examples import RankingExamples, without_self

if TYPE_CHECKING:
    import pandas as pd

    from indexer.index import Index


class _Asked(NamedTuple):
    """A query that one user judged images for: its row in the gallery, −1 for none, its pixels, and row → verdict."""

    user: str
    query: str
    row: int
    pixels: np.ndarray
    verdicts: dict[int, bool]


def judged_examples(
    index: "Index", *, user: str | None = None, num_candidates: int = 100, metadata: MetadataColumns | None = None
) -> tuple[RankingExamples | None, list[str]]:
    """The queries to which something was judged relevant and something not, and what could not be read of them.

    A list has the query's nearest images; those that were judged and are not among them stand at its end. Only what was
    judged counts. Of several users each has queries of their own, and feedback of their own: all but what was said of
    the same picture, as if it were asked for the first time. None where no query is of use. Raises
    `IndexFolderError` for an index without tokens, `DamagedError`.
    """
    gallery = index.gallery
    if gallery.tokens is None:
        raise IndexFolderError(
            f"expected local tokens in {index.path} to learn to re-rank by, found none; add them, without indexing "
            f"anew, with: spyglass tokens --index {index.path}"
        )
    said = index.feedback(user)
    row_of = gallery.find({*said["query"], *said["image"]})
    said = said[said["image"].isin(row_of) & (said["query"].isin(row_of) | said["query_image"].notna())]
    asked, failures = _readable(gallery, said, row_of, index.embedder.image_size)
    if not asked:
        return None, failures
    encoded = index.encode_pictures([one.pixels for one in asked])
    queries = combine([[one] for one in encoded], token_dim=gallery.tokens.token_dim)
    _, found_QK = gallery.buckets.search(queries.vectors, min(num_candidates + 1, gallery.buckets.num_images))
    rows_QK = without_self(found_QK, np.array([one.row for one in asked]))
    for one, rows_K in zip(asked, rows_QK, strict=True):
        _bring_in(rows_K, one.verdicts)
    counts_QK, relevant_QK = (
        np.stack([np.isin(rows_K, kept(one.verdicts)) for one, rows_K in zip(asked, rows_QK, strict=True)])
        for kept in (list, lambda verdicts: [row for row, verdict in verdicts.items() if verdict])
    )
    known, places = np.unique(rows_QK, return_inverse=True)
    columns = metadata or MetadataColumns()
    documents = described_rows(gallery, known, columns)
    candidates_QK = torch.from_numpy(places.reshape(rows_QK.shape))
    own = [catalog_values(gallery, np.array([one.row]), columns)[0] if one.row >= 0 else {} for one in asked]
    examples = RankingExamples(
        queries=described_queries(queries, queries.vectors, columns, own),
        documents=documents,
        candidates=candidates_QK,
        relevant=torch.from_numpy(relevant_QK),
        counts=torch.from_numpy(counts_QK),
        num_relevant=torch.from_numpy(relevant_QK.sum(1)),
        feedback=_feedback(
            gallery, index.embedder, said, asked, queries.vectors, rows_QK, documents.vectors[candidates_QK]
        ),
    )
    return examples, failures


def _readable(
    gallery: Gallery, said: "pd.DataFrame", row_of: Mapping[str, int], image_size: int
) -> tuple[list[_Asked], list[str]]:
    """Of each user the queries with verdicts of both kinds; and a line for each whose picture cannot be read."""
    asked, failures = [], []
    for (user, query), mine in said.groupby(["user", "query"], sort=False):
        row = row_of.get(query, -1)
        verdicts = {
            row_of[image]: bool(verdict) for image, verdict in zip(mine["image"], mine["relevant"], strict=True)
        }
        verdicts.pop(row, None)  # that a picture is what was looked for with itself teaches nothing
        if len(set(verdicts.values())) < 2:
            continue
        picture = gallery.catalog.row(row)["uri"] if row >= 0 else mine["query_image"].dropna().iloc[-1]
        try:
            pixels = pixels_of(picture, image_size)
        except ImageError as error:
            failures.append(f"{query}: {error}")
        else:
            asked.append(_Asked(user, query, row, pixels, verdicts))
    return asked, failures


def _bring_in(rows_K: np.ndarray, verdicts: Mapping[int, bool]) -> None:
    """Put judged rows that a list lacks at its end, in place of the last ones that were not judged."""
    missing = [row for row in verdicts if row not in rows_K]
    (free,) = np.nonzero(~np.isin(rows_K, list(verdicts)))
    places = free[max(0, len(free) - len(missing)) :]
    rows_K[places] = missing[: len(places)]


def _feedback(
    gallery: Gallery,
    embedder: Any,
    said: "pd.DataFrame",
    asked: Sequence[_Asked],
    vectors_QD: np.ndarray,
    rows_QK: np.ndarray,
    candidates_QKD: torch.Tensor,
) -> torch.Tensor:
    """(Q, K, 6): each query by what its own user said of others; the same picture under another name is no other."""
    users = np.array([one.user for one in asked])
    features: list[torch.Tensor | None] = [None] * len(asked)
    encoded: dict[bytes, np.ndarray] = {}
    for user in dict.fromkeys(users.tolist()):
        (mine,) = np.nonzero(users == user)
        of_user = said[said["user"] == user]
        judgments = judgments_of(of_user, gallery, embedder, encoded)
        queries_QD = torch.from_numpy(vectors_QD[mine])
        own_QJ = np.stack([(of_user["query"] == asked[number].query).to_numpy() for number in mine])
        of_mine = feedback_features(
            judgments,
            queries_QD,
            torch.from_numpy(rows_QK[mine]),
            candidates_QKD[torch.from_numpy(mine)],
            leave_out=torch.from_numpy(own_QJ) | (similarity(queries_QD, judgments.queries) >= SAME_PICTURE),
        )
        for number, features_KF in zip(mine, of_mine, strict=True):
            features[number] = features_KF
    return torch.stack(features)
