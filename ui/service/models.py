"""What the service takes and gives, as pydantic models: its OpenAPI is made of them."""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from indexer import Hit
from indexer.catalog import PLACES
from indexer.judgments import ranker_folders
from indexer.searching.query_pixels import Crop
from ui.service.picture_links import image_link, thumbnail_link

NAME = rf"^{ranker_folders.NAME.pattern}$"
"""What the name of a ranker looks like; no path does."""

MAX_K = 1000
MAX_OFFSET = 10_000
MAX_EXAMPLES = 32
_MAX_FILTERS = 20_000  # characters

_RENAMED = {"k": "top_k", "filters": "where"}  # as `Index.search` calls them

ImageName = Annotated[
    str,
    Field(min_length=1, max_length=4096, description="The id of an image of the index.", examples=["boats/01.jpg"]),
]


class SearchOptions(BaseModel):
    """What is asked of a search beside its pictures."""

    model_config = ConfigDict(extra="forbid")

    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many hits.")] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET, description="Hits to leave out before them.")] = 0
    filters: Annotated[
        dict[str, Any] | None,
        Field(
            description=(
                "Rules for the catalog's columns that must all hold: a value, a list of values, or operators: "
                "eq, ne, gt, gte, lt, lte, in, not_in, contains, starts_with, exists."
            ),
            examples=[{"label": ["boats", "other"], "width": {"gte": 32}}],
        ),
    ] = None
    min_score: Annotated[
        float | None, Field(allow_inf_nan=False, description="Only hits that score at least this before re-ranking.")
    ] = None
    rerank: Annotated[
        int | None, Field(ge=0, le=1000, description="How many of the most similar a ranker orders; 0 for none.")
    ] = None
    ranker: Annotated[
        str | None,
        Field(
            pattern=NAME,
            max_length=200,
            description="The name of one of the index's rankers, as /v1/info tells them; by default the one in use.",
            examples=["default"],
        ),
    ] = None
    user: Annotated[str, Field(max_length=200, description="Whose feedback a ranker reads that learned from some.")] = (
        ""
    )
    group_by: Annotated[
        str | None, Field(max_length=200, description="A column, of each of whose values there are few hits.")
    ] = None
    group_size: Annotated[int, Field(ge=1, le=MAX_K, description="How many those are.")] = 1
    diverse: Annotated[
        float | None, Field(ge=0, le=1, description="0 orders by relevance, 1 by difference from the hits before.")
    ] = None

    @field_validator("filters", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > _MAX_FILTERS:
            raise ValueError(f"longer than {_MAX_FILTERS} characters")
        try:
            return json.loads(value)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    @model_validator(mode="after")
    def _refuse_private(self) -> "SearchOptions":
        for name in PLACES:
            if name in (self.filters or {}) or self.group_by == name:
                raise ValueError(f"expected no rule for {name!r}, since where files lie is not told; leave it out")
        return self

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of `Index.search` that say the same; what is not asked for is left out."""
        asked = self.model_dump(include=set(SearchOptions.model_fields), exclude_defaults=True)
        return {_RENAMED.get(name, name): value for name, value in asked.items()}


class SearchForm(SearchOptions):
    """A query as an uploaded picture or as the id of an image, and what is asked of the search."""

    image: Annotated[UploadFile | None, Field(description="A picture file.")] = None
    id: Annotated[ImageName | None, Field(examples=["boats/01.jpg"])] = None
    crop: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,6},[0-9]{1,6},[1-9][0-9]{0,5},[1-9][0-9]{0,5}$",
            description="Look for this part alone: x, y, width and height in pixels of the upright picture.",
            examples=["0,0,24,24"],
        ),
    ] = None

    def region(self) -> Crop | None:
        """The part that is looked for alone, in numbers; None for the whole picture."""
        return None if self.crop is None else tuple(map(int, self.crop.split(",")))

    @model_validator(mode="after")
    def _one_query(self) -> "SearchForm":
        if (self.image is None) == (self.id is None):
            raise ValueError(f"expected image or id, got {'neither' if self.id is None else 'both'}")
        return self


class RecommendRequest(SearchOptions):
    """Images to find more like, and others to find less like."""

    positives: Annotated[list[ImageName], Field(min_length=1, max_length=MAX_EXAMPLES, examples=[["boats/01.jpg"]])]
    negatives: Annotated[list[ImageName], Field(max_length=MAX_EXAMPLES, examples=[["other/00.jpg"]])] = []


class FeedbackForm(BaseModel):
    """A judgment: an image is, or is not, what was looked for with a picture or with another image."""

    model_config = ConfigDict(extra="forbid")

    id: ImageName
    relevant: bool
    query_image: Annotated[UploadFile | None, Field(description="The picture that was asked with.")] = None
    query_id: Annotated[ImageName | None, Field(examples=["boats/02.jpg"])] = None
    user: Annotated[str, Field(max_length=200, description="Whose judgment it is.")] = ""

    @model_validator(mode="after")
    def _one_query(self) -> "FeedbackForm":
        if (self.query_image is None) == (self.query_id is None):
            raise ValueError(f"expected query_image or query_id, got {'neither' if self.query_id is None else 'both'}")
        return self


class HitModel(BaseModel):
    """A picture that answers a query: see `indexer.Hit`; `image` and `thumbnail` are where this service shows it."""

    rank: int
    id: str
    names: Annotated[list[str], Field(description="Other ids of the very same picture.")]
    score: float
    similarity: float
    dim: int
    label: str | None
    similarity_rank: int | None
    columns: dict[str, str | int | float | bool | None]
    image: Annotated[str, Field(examples=["/v1/images/boats/01.jpg"])]
    thumbnail: Annotated[str, Field(examples=["/v1/thumbnails/boats/01.jpg"])]

    @classmethod
    def of(cls, hit: Hit) -> "HitModel":
        # Built from checked values already; where the file lies on this machine is left out.
        return cls.model_construct(
            rank=hit.rank,
            id=hit.id,
            names=list(hit.names),
            score=hit.score,
            similarity=hit.similarity,
            dim=hit.dim,
            label=hit.label,
            similarity_rank=hit.similarity_rank,
            columns=hit.columns,
            image=image_link(hit.id),
            thumbnail=thumbnail_link(hit.id),
        )


class Answer(BaseModel):
    """The hits, best first; `took_ms` is what decoding, waiting for others and searching took together."""

    hits: list[HitModel]
    took_ms: float
    notes: Annotated[
        list[str],
        Field(
            description="What is to be known of the hits, a sentence each; mostly there is nothing.",
            examples=[["nothing is grouped: none of the hits has a value in the column label"]],
        ),
    ]


class JudgmentModel(BaseModel):
    """What was kept of a judgment."""

    query: str
    id: str
    relevant: bool
    user: str
    when: Annotated[str, Field(examples=["2026-01-31T12:00:00.000000Z"])]


class InfoModel(BaseModel):
    """What the index holds: see `Index.info`; `version` counts the changes to it, `rankers` can be asked for."""

    images: int
    version: int
    mean_dim: float | None
    buckets: Annotated[dict[str, int], Field(examples=[{"32": 10, "64": 52, "128": 31}])]
    model: str
    rankers: list[str]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "InfoModel":
        """From `Index.info` and the version; of a model in a folder only the folder's name."""
        known = {name: facts[name] for name in cls.model_fields}
        return cls(**known | {"model": PurePath(facts["model"]).name, "rankers": named_rankers(facts)})


def named_rankers(facts: Mapping[str, Any]) -> list[str]:
    """The rankers of `Index.info` that have a name: one in a model's folder has a path, which is nobody's business."""
    return [name for name in facts["rankers"] if ranker_folders.NAME.fullmatch(name)]


class Health(BaseModel):
    status: Annotated[str, Field(examples=["ok"])] = "ok"


class ErrorModel(BaseModel):
    """What was expected, what arrived, and what to do next, in one line."""

    error: str
