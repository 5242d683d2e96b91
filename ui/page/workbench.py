"""What all visitors of the page share: the open index, its model, pictures that they gave, answers kept, and jobs.

The server makes one before it starts; the pages and the routes of pictures ask `current` for it.
"""

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.searching.query_pixels import Crop
from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import read_pixels
from ui.latest import Latest
from ui.page.adding import Adding
from ui.page.filters import allowed
from ui.page.judgments import Counts, Judgments
from ui.page.pictures import Pictures
from ui.page.query_state import QueryState, image_of, image_ref, upload_of
from ui.page.training import Training, TrainingOptions
from ui.page.view import View

if TYPE_CHECKING:
    from PIL import Image

    from indexer import EncodedPicture, Hit, Index

_current: "Workbench | None" = None


def use(workbench: "Workbench") -> "Workbench":
    """Make this the one that `current` gives."""
    global _current
    _current = workbench
    return workbench


def current() -> "Workbench":
    """The workbench of this process; raises `UsageError` where there is none."""
    if _current is None:
        raise UsageError("expected the page to be started with an index, got none; start it with: spyglass ui")
    return _current


@dataclass(frozen=True, kw_only=True)
class Found:
    """A page of hits, whether there are more after it, and how long finding them took when they were found."""

    hits: Sequence["Hit"]
    has_more: bool
    took_ms: float


class Workbench:
    """One for a process, for many threads at once. `may_change`: whether visitors may add folders and train rankers."""

    def __init__(self, index: "Index", *, may_change: bool = True):
        self.may_change = may_change
        self.pictures = Pictures(lambda: self._view.index)
        self.adding: Adding | None = None
        self.training: Training | None = None
        self._judgments = Judgments()
        self._view = View(index)
        self._overlays: Latest[bytes] = Latest(500)
        self._encoded: Latest[EncodedPicture] = Latest(500)
        self._found: Latest[Found] = Latest(100)
        self._model = threading.RLock()  # one search or encoding at a time: they use all cores as it is
        self._refreshing = threading.Lock()
        self._starting = threading.Lock()  # of jobs: of one kind there is one

    @property
    def view(self) -> View:
        """The index as it is now: what others have committed is seen from the next call on."""
        with self._refreshing:
            newer = self._view.index.newer()
            if newer is not None:
                self._view = View(newer)
            return self._view

    def warm_up(self) -> None:
        """Load the model and open the vectors, so that the first visitor need not wait for them."""
        grey = np.full((32, 32, 3), 128, np.uint8)
        with self._model:
            self._view.index.search(self._view.index.encode_pictures([grey]), top_k=1)

    def find(self, state: QueryState, *, user: str = "") -> Found:
        """The hits on the page that is asked for; raises what `Index.search` does."""
        view = self.view
        key = view.index.version, view.index.ranking_state(), state.to_text(), user
        return self._found.get(key, lambda: self._search(view, state, user))

    def _search(self, view: View, state: QueryState, user: str) -> Found:
        started = time.perf_counter()
        liked = [self.encoded(ref, state.crop) for ref in state.like]
        disliked = [self.encoded(ref) for ref in state.unlike]
        with self._model:
            hits = view.index.search(
                liked,
                subtract=disliked,
                top_k=state.num_hits + 1,  # one more says whether there is another page
                offset=state.page * state.num_hits,
                where=allowed(view.filters, state.where) or None,
                min_score=state.min_score,
                rerank=None if state.rerank else 0,
                ranker=_known_ranker(view.index, state) if state.rerank else None,
                group_by=state.group_by,
                diverse=state.diverse or None,
                user=user,
            )
        took_ms = (time.perf_counter() - started) * 1000
        return Found(hits=hits[: state.num_hits], has_more=len(hits) > state.num_hits, took_ms=took_ms)

    def encoded(self, ref: str, crop: Crop | None = None) -> "EncodedPicture":
        """A picture of a query as `search` takes it: encoded once by a model, however often it is asked for."""
        from indexer import ImageId

        def encode() -> "EncodedPicture":
            is_whole_image = upload_of(ref) is None and crop is None
            # By its id an image can be looked for even when its file is gone.
            picture = ImageId(image_of(ref)) if is_whole_image else self.pictures.part(ref, crop)
            with self._model:
                (encoded,) = self._view.index.encode_pictures([picture])
            return encoded

        return self._encoded.get((*self._seen(ref), crop), encode)

    def attention(self, ref: str) -> bytes:
        """Where the model looks in a picture, as a small JPEG's bytes; raises `ImageError`."""
        return self._overlays.get(self._seen(ref), lambda: self._draw_attention(ref))

    def match(self, state: QueryState, hit: "Hit") -> "Image.Image":
        """The query's one picture beside a hit, with the places that are compared most; raises `SpyglassError`."""
        from PIL import Image

        from ui.pictures.match_overlay import overlay

        ref = state.like[0]
        query, found = self.pictures.part(ref, state.crop), self.pictures.data(image_ref(hit.id))
        with self._model:
            explanation = self._view.index.explain(query, hit, ranker=_known_ranker(self._view.index, state))
        left, right = (Image.fromarray(read_pixels(picture, None)) for picture in (query, found))
        detail = f"score {hit.score:.3f}, similarity {hit.similarity:.3f}"
        return overlay(left, right, explanation, title=hit.label or hit.id, detail=detail)

    def judge(self, state: QueryState, image_id: str, relevant: bool, *, user: str = "") -> None:
        """Keep that an image is, or is not, what was looked for with the query's first picture."""
        ref = state.like[0]
        picture = _own_name(state) or self.pictures.part(ref, state.crop)
        judgment = self.view.index.record_feedback(picture, image_id, relevant, user=user)
        self._judgments.note(judgment, (ref, state.crop))

    def judged(self, state: QueryState, *, user: str = "") -> dict[str, bool]:
        """What this user has said of the images, by their ids, as answers to the query's first picture."""
        return self._judgments.of(self._view.index, _own_name(state), (state.like[0], state.crop), user)

    def judgment_counts(self) -> Counts:
        """How much was judged so far; raises `DamagedError`."""
        return self._judgments.counts(self.view.index)

    def add(self, source: str, *, label_from: str | None = None) -> None:
        """Begin to add what a source holds, on the side; raises `SourceError` where there is nothing.

        `UsageError` where visitors may not, or something is being added.
        """
        from indexer import Index

        self._refuse_changes()
        if not Path(source).exists():
            raise SourceError(f"expected a folder or file to add, found nothing at {source}; check the path")
        index = self.view.index
        with self._starting:
            if self.adding is not None and self.adding.is_running:
                busy = f"while {self.adding.source} is being added; wait for that, or stop it"
                raise UsageError(f"expected one source at a time, got {source} {busy}")
            # A handle of its own: what the pages look at meanwhile stays as it is until they ask for what is newer.
            self.adding = Adding(Index.open(index.path, index.embedder), source, label_from=label_from)

    def train(self, options: TrainingOptions) -> None:
        """Begin to train a ranker, on the side; raises `UsageError` where visitors may not, or one is in training."""
        self._refuse_changes()
        index = self.view.index
        with self._starting:
            if self.training is not None:
                if self.training.is_running:
                    busy = f"while {self.training.options.name} is in training; wait for that, or stop it"
                    raise UsageError(f"expected one ranker at a time, got {options.name} {busy}")
                self.training.forget()
            self.training = Training(index.path, options, model=index.embedder.name)

    def close(self) -> None:
        """End the jobs that still run."""
        if self.adding is not None:
            self.adding.stop()
        if self.training is not None:
            self.training.forget()

    def _refuse_changes(self) -> None:
        if not self.may_change:
            raise UsageError("expected this page on the machine where it runs, got it from elsewhere; open it there")

    def _seen(self, ref: str) -> tuple[str, str, str]:
        """What the model that sees a picture is known by, and what the picture: either may be another one by now."""
        with self._model:  # whoever comes first loads it, and the others wait
            fingerprint = self._view.index.embedder.fingerprint
        return fingerprint, self.pictures.sha256_of(ref), ref

    def _draw_attention(self, ref: str) -> bytes:
        from PIL import Image

        from ui.attention import attention_overlay

        shown = Image.open(io.BytesIO(self.pictures.tile(ref)))
        attention = self.encoded(ref).attention
        if attention is None:
            raise ImageError("expected the picture as it was indexed, found another or none; index it anew")
        file = io.BytesIO()
        attention_overlay(shown, attention).save(file, "JPEG", quality=85)
        return file.getvalue()


def _known_ranker(index: "Index", state: QueryState) -> str | None:
    """The ranker that an address asks for, if the index has it: what is none must not be taken for a path."""
    return state.ranker if state.ranker in index.info()["rankers"] else None


def _own_name(state: QueryState) -> str | None:
    """The id of the query's first picture, where it is a whole image of the index."""
    ref = state.like[0]
    return image_of(ref) if upload_of(ref) is None and state.crop is None else None
