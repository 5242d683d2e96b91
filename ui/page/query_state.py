"""What is asked on the search page, and the same in the page's URL, so that a view can be shared and reloaded."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from indexer.searching.query_pixels import Crop

NUM_HITS = (12, 24, 48, 96)
"""How many hits a page may show."""

UPLOAD = "@"
"""What the reference of an uploaded picture begins with, before its sha256; an image's own `@` is doubled."""

MOST_PICTURES = 16
"""How many pictures a query may have."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"\d{1,9}")


def image_ref(image_id: str) -> str:
    """The reference of an image of the index, as `like` and `unlike` hold it."""
    return UPLOAD + image_id if image_id.startswith(UPLOAD) else image_id


def upload_ref(sha256: str) -> str:
    """The reference of an uploaded picture."""
    return UPLOAD + sha256


def upload_of(ref: str) -> str | None:
    """The sha256 of the uploaded picture that a reference names; None for an image of the index."""
    name = ref.removeprefix(UPLOAD)
    return name if name != ref and _SHA256.fullmatch(name) else None


def image_of(ref: str) -> str:
    """The id of the image that a reference names, which is no uploaded picture's."""
    return ref[len(UPLOAD) :] if ref.startswith(UPLOAD * 2) else ref


@dataclass(frozen=True, kw_only=True)
class QueryState:
    """The pictures that are liked and disliked, by their references, and how their hits are chosen and shown.

    `crop` (x, y, width, height) in pixels of the one picture that is liked. `where` is a structured filter as `search`
    takes it. `page` counts from 0, `seed` draws the random start, `diverse` is 0 for not at all to 1. Nothing is
    raised: what makes no sense together, a crop of two pictures for example, is dropped.
    """

    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    crop: Crop | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    num_hits: int = 24
    page: int = 0
    min_score: float | None = None
    rerank: bool = True
    ranker: str | None = None
    group_by: str | None = None
    diverse: float = 0.0
    shows_attention: bool = False
    seed: int = 0

    def __post_init__(self):
        like = tuple(dict.fromkeys(self.like))[:MOST_PICTURES]
        unlike = tuple(ref for ref in dict.fromkeys(self.unlike) if ref not in like)[:MOST_PICTURES]
        object.__setattr__(self, "like", like)
        object.__setattr__(self, "unlike", unlike)
        if len(like) != 1:
            object.__setattr__(self, "crop", None)

    @classmethod
    def from_params(cls, params: Mapping[str, Sequence[str]]) -> "QueryState":
        """Read the parameters of a URL; those that nobody could have meant are passed over."""

        def last(name: str) -> str:
            return (params.get(name) or [""])[-1]

        num_hits = _number(last("k"))
        return cls(
            like=tuple(filter(None, params.get("like", ()))),
            unlike=tuple(filter(None, params.get("unlike", ()))),
            crop=_crop(last("crop")),
            where=_where(last("where")),
            num_hits=num_hits if num_hits in NUM_HITS else cls.num_hits,
            page=_number(last("page")) or 0,
            min_score=_share(last("min")),
            rerank=last("rerank") != "off",
            ranker=last("ranker") or None,
            group_by=last("group") or None,
            diverse=max(_share(last("diverse")) or 0.0, 0.0),
            shows_attention=last("look") == "on",
            seed=_number(last("seed")) or 0,
        )

    def to_params(self) -> dict[str, list[str]]:
        """The parameters of the URL; what is as it is by default is left out."""
        texts = {
            "crop": self.crop and ",".join(map(str, self.crop)),
            "where": self.where and json.dumps(self.where, separators=(",", ":"), sort_keys=True),
            "k": self.num_hits != QueryState.num_hits and str(self.num_hits),
            "page": self.page and str(self.page),
            "min": None if self.min_score is None else f"{self.min_score:g}",
            "rerank": not self.rerank and "off",
            "ranker": self.ranker,
            "group": self.group_by,
            "diverse": self.diverse and f"{self.diverse:g}",
            "look": self.shows_attention and "on",
            "seed": self.seed and str(self.seed),
        }
        pictures = {name: list(refs) for name, refs in (("like", self.like), ("unlike", self.unlike)) if refs}
        return pictures | {name: [text] for name, text in texts.items() if text}

    def to_text(self) -> str:
        """All of it in one text: the same for those that ask the same."""
        return urlencode(self.to_params(), doseq=True)

    @property
    def is_asked(self) -> bool:
        """Whether there is a query: something to look for."""
        return bool(self.like)

    def change(self, **changes: Any) -> "QueryState":
        """With other settings, from the first page on."""
        return replace(self, page=0, **changes)

    def only(self, ref: str) -> "QueryState":
        """A new query of this picture alone; filters and settings stay."""
        return self.change(like=(ref,), unlike=(), crop=None)

    def more_like(self, ref: str) -> "QueryState":
        """With one more picture that is liked."""
        return self.change(like=(*self.like, ref), unlike=_without(self.unlike, ref))

    def less_like(self, ref: str) -> "QueryState":
        """With one more picture that is disliked."""
        like = _without(self.like, ref)
        return self.change(like=like, unlike=(*self.unlike, ref), crop=self.crop if like == self.like else None)

    def without(self, ref: str) -> "QueryState":
        """With one picture fewer."""
        return self.change(like=_without(self.like, ref), unlike=_without(self.unlike, ref), crop=None)

    def turn_to(self, page: int) -> "QueryState":
        """Another page of the same hits."""
        return replace(self, page=max(page, 0))


def _without(refs: tuple[str, ...], ref: str) -> tuple[str, ...]:
    return tuple(one for one in refs if one != ref)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and _NUMBER.fullmatch(text) else None


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if math.isfinite(share) and -1 <= share <= 1 else None


def _crop(text: str) -> Crop | None:
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) != 4 or None in numbers or not (numbers[2] and numbers[3]):
        return None
    return tuple(numbers)


def _where(text: str) -> dict[str, Any]:
    """A filter of the kinds that the page itself makes: a list of values, or bounds."""
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(asked, dict):
        return {}
    return {name: rule for name, rule in asked.items() if _is_choice(rule) or _is_range(rule)}


def _is_choice(rule: Any) -> bool:
    return isinstance(rule, list) and bool(rule) and all(isinstance(value, str | int | bool) for value in rule)


def _is_range(rule: Any) -> bool:
    return (
        isinstance(rule, dict)
        and bool(rule)
        and rule.keys() <= {"gte", "lte"}
        and all(
            isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in rule.values()
        )
    )
