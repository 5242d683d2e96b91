"""The index: make one, open one, add pictures, search them."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from indexer import arguments, own_model
from indexer.storage import manifest, snapshots
from indexer.storage.durable import sole_writer
from indexer.storage.manifest import LOCK, WIDTHS, Manifest
from retrieval.errors import DamagedError, SpyglassError, UsageError

# Everything else is imported where it is needed: `info` must answer at once, without pyarrow, FAISS or the model.
if TYPE_CHECKING:
    import pandas as pd

    from indexer.changes.add_tokens import TokensReport
    from indexer.changes.compacting import CompactReport
    from indexer.changes.importing import ImportReport
    from indexer.changes.reencoding import ReencodeReport
    from indexer.column_summary import ColumnSummary
    from indexer.feedback import Judgment
    from indexer.ingest import AddReport
    from indexer.judgments.judging import FeedbackReport
    from indexer.named_images import Images
    from indexer.overview import Overview
    from indexer.searching.explaining import MatchExplanation
    from indexer.searching.gallery import Gallery
    from indexer.searching.hits import Hit
    from indexer.searching.near_duplicates import NearDuplicate
    from indexer.searching.pictures import EncodedPicture
    from indexer.searching.searcher import Searcher
    from indexer.storage.records import Model
    from indexer.storage.snapshots import Snapshot
    from indexer.stored_catalog import StoredCatalog


T = TypeVar("T")


class Index:
    """An index folder as it was when it was opened or last added to; made with `create`, found again with `open`."""

    def __init__(self, path: Path, state: Manifest, embedder: Any, device: str, *, is_pinned: bool = False):
        self.path = path
        self._manifest = state
        self._is_pinned = is_pinned
        self._embedder = embedder
        self._device = device
        self._catalog: tuple[Manifest, StoredCatalog] | None = None
        self._gallery: Gallery | None = None
        self._searcher: Searcher | None = None

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, images={self._manifest.num_images}, version={self.version})"

    @classmethod
    def create(
        cls,
        path: str | Path,
        embedder: Any,
        *,
        widths: Sequence[int] = WIDTHS,
        dtype: str = "float16",
        index_type: str = "auto",
        token_bytes: int = 1024,
    ) -> "Index":
        """Make an empty index for the vectors of `embedder`, in a folder that is empty or not there yet.

        That may also be the name or the folder of one, here as in `open` and `reencode`. `widths` are the lengths of
        the buckets, rising to the embedder's own last one; `dtype` "float16" or "float32" is how vectors are stored.
        `index_type` is how they are searched: "Flat" compares them all, another FAISS factory string ("HNSW32") builds
        that over each large bucket of a segment, "auto" does where that pays (`indexer.vectors.approximating`).
        `token_bytes`, 0 to 4096, of an image's local tokens are kept for reranking. Raises `IndexFolderError`,
        `UsageError`, or `WeightsError` for the name of no model.
        """
        from indexer.changes import creating

        arguments.check_integers(token_bytes=token_bytes)
        path, embedder = Path(path), own_model.given(embedder, "auto")
        state = creating.create(
            path, embedder, widths=widths, dtype=dtype, index_type=index_type, token_bytes=token_bytes
        )
        return cls(path, state, embedder, "auto")

    @classmethod
    def open(
        cls, path: str | Path, embedder: Any = None, *, device: str = "auto", snapshot: int | None = None
    ) -> "Index":
        """Open an index; `embedder` must be the one it was made with, wherever it was loaded from.

        Where none is given, it is loaded by the name that it had then when it is first needed: a shipped one, a folder.
        `device` ("auto", "cpu", "cuda") is where the model and a plain scan run; `snapshot` the version of an earlier
        state to read instead of the newest (what is written follows the newest all the same). Raises
        `IndexFolderError` where there is no index, `UsageError` where there is no such snapshot, `DamagedError` where
        its manifest is not as it was written, `MismatchError` for another embedder.
        """
        path = Path(path)
        state = manifest.read(path) if snapshot is None else snapshots.read(path, snapshot)
        if embedder is not None:
            embedder = own_model.given(embedder, device)
            own_model.refuse_other(path, state.model, embedder)
        return cls(path, state, embedder, device, is_pinned=snapshot is not None)

    @property
    def version(self) -> int:
        """Which state of the index this is: each change to it counts up by one."""
        return self._manifest.version

    def newer(self) -> "Index | None":
        """The newest state, with the embedder that is loaded here already; None where this is it.

        Raises `IndexFolderError`, `DamagedError`.
        """
        state = manifest.read(self.path)
        if state == self._manifest:
            return None
        embedder = self._embedder if _fits(self._embedder, state) else None
        return type(self)(self.path, state, embedder, self._device)

    @property
    def embedder(self) -> Any:
        """The embedder, loaded by the name in the manifest where none was given.

        Raises `MismatchError` where another bears that name now, `WeightsError` where none does.
        """
        if self._embedder is None:
            embedder = own_model.load(self.path, self._manifest.model, self._device)
            own_model.refuse_other(self.path, self._manifest.model, embedder)
            self._embedder = embedder
        return self._embedder

    @property
    def _model(self) -> "Model":
        return own_model.found_at(self._manifest.model, self._embedder)

    def add(
        self,
        *sources: str | Path,
        label_from: str | None = None,
        exclude_dirs: Sequence[str] = (),
        num_workers: int | None = None,
        batch_size: int = 64,
        on_error: str = "skip",
        prune: bool | str = False,
        retry_failed: bool = False,
        show_progress_bar: bool = False,
        commit_seconds: float = 20.0,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> "AddReport":
        """Add what is new in the sources, update what has changed, leave the rest untouched (`indexer.ingest`).

        A source is a folder, an image file, a .parquet (image bytes or paths), a .csv (paths) or a .tar (WebDataset),
        by its path or, with the extra `remote`, its URL; the options are those of `AddConfig`, in
        `indexer.changes.add_config`. Known bytes are not encoded again: a renamed file keeps its vector and gets its
        new id, and an exact duplicate is a further name of the same hit. Whatever ends it early, Ctrl-C for example,
        what is encoded is committed. Raises `SourceError`, `UsageError`, `MismatchError`, `LockedError` while another
        process writes, `IndexFolderError` where the disk refuses: what was committed before stays.
        """
        from indexer.changes.add_config import AddConfig
        from indexer.ingest import Ingest

        arguments.check_sources(sources)
        arguments.check_several(exclude_dirs=exclude_dirs)
        if not sources and not retry_failed:
            raise UsageError("expected sources or retry_failed, got neither; name a folder of pictures, for example")
        arguments.check_integers(num_workers=num_workers, batch_size=batch_size)
        config = AddConfig(
            label_from=label_from,
            exclude_dirs=tuple(exclude_dirs),
            num_workers=num_workers,
            batch_size=batch_size,
            on_error=on_error,
            prune=prune,
            retry_failed=retry_failed,
            show_progress_bar=show_progress_bar,
            commit_seconds=commit_seconds,
            on_progress=on_progress,
        )
        with sole_writer(self.path / LOCK):
            ingest = Ingest(self.path, self.embedder, config)
            try:
                return ingest.run(sources)
            finally:
                self._move_to(ingest.manifest)

    def add_tokens(
        self,
        *,
        token_bytes: int = 1024,
        batch_size: int = 64,
        num_workers: int | None = None,
        show_progress_bar: bool = False,
        commit_seconds: float = 20.0,
    ) -> "TokensReport":
        """Give local tokens, of at most `token_bytes` an image, to the images that have none, or another amount.

        Their pictures are read again from where they lie; ids, vectors and dims stay as they are. The options are those
        of `indexer.sources.encode_config`: what is complete is committed now and then, and not done again by the next
        run. A picture that is gone or has changed is reported, and keeps what tokens it had. Images that are added
        later get as many. Raises `UsageError`, `LockedError`, `MismatchError`, `DamagedError`.
        """
        from indexer.changes.add_tokens import AddTokensConfig, TokensRun
        from indexer.changes.creating import token_bytes_of

        arguments.check_integers(token_bytes=token_bytes, num_workers=num_workers, batch_size=batch_size)
        config = AddTokensConfig(
            token_bytes=token_bytes_of(self.embedder, token_bytes),
            batch_size=batch_size,
            num_workers=num_workers,
            show_progress_bar=show_progress_bar,
            commit_seconds=commit_seconds,
        )
        if not config.token_bytes:
            name = self.embedder.name
            stranger = f"a model with local tokens, got {name}, which has none; index anew with one that has"
            raise UsageError(f"expected {'bytes for one token at least, got 0' if token_bytes == 0 else stranger}")
        with sole_writer(self.path / LOCK):
            run = TokensRun(self.path, self.embedder, config)
            try:
                return run.run()
            finally:
                self._move_to(run.manifest)

    def reencode(
        self,
        embedder: Any = None,
        *,
        drop_missing: bool = False,
        batch_size: int = 64,
        num_workers: int | None = None,
        show_progress_bar: bool = False,
        commit_seconds: float = 20.0,
    ) -> "ReencodeReport":
        """Encode all images anew by another model, `embedder`; by default the one that bears the old one's name now.

        Their pictures are read again from where they lie; ids, labels and columns stay. The old vectors serve until all
        new ones are there. Where a picture cannot be read, the report tells it and nothing is replaced; with
        `drop_missing` the index goes on without those images. The other options are those of
        `indexer.sources.encode_config`: what is encoded is kept for the next run, if no image was added or removed
        meanwhile. Raises `SourceError` where all would be dropped; `UsageError`, `LockedError`, `DamagedError`,
        `IndexFolderError`.
        """
        from indexer.changes.reencoding import ReencodeConfig, Reencoding

        arguments.check_integers(num_workers=num_workers, batch_size=batch_size)
        config = ReencodeConfig(
            drop_missing=drop_missing,
            batch_size=batch_size,
            num_workers=num_workers,
            show_progress_bar=show_progress_bar,
            commit_seconds=commit_seconds,
        )
        if embedder is None:
            embedder = own_model.load(self.path, self._manifest.model, self._device)
        else:
            embedder = own_model.given(embedder, self._device)
        with sole_writer(self.path / LOCK):
            run = Reencoding(self.path, embedder, config)
            report = run.run()
        if report.is_whole:
            self._embedder = embedder
        self._move_to(run.manifest)
        return report

    def remove(self, ids: Iterable[str] = (), *, where: str | Mapping[str, Any] | None = None) -> int:
        """Take images out, by their ids or by a condition as `search` takes it; returns how many.

        They are found no more from then on; their rows stay on disk, for `restore`, until `compact`. What is no id may
        be the path of one picture, its uri; with a name that is neither, nothing is removed. Raises `UsageError`,
        `LockedError`, `IndexFolderError`.
        """
        from indexer.changes import removing

        ids = arguments.names_of(ids)
        with sole_writer(self.path / LOCK):
            state, num_removed = removing.remove(self.path, ids, where)
        self._move_to(state)
        return num_removed

    def compact(self, *, keep_snapshots: int = 1) -> "CompactReport":
        """Merge all segments into one, drop the rows that were removed, and free what nothing needs any more.

        The newest `keep_snapshots` earlier states stay, to be restored, and keep their files on disk; with 0, what was
        removed is gone for good. Ids, scores and the order of hits stay the same. Raises `UsageError`, `LockedError`,
        `DamagedError`, `IndexFolderError`.
        """
        from indexer.changes import compacting

        with sole_writer(self.path / LOCK):
            state, report = compacting.compact(self.path, keep_snapshots=keep_snapshots)
        self._move_to(state)
        return report

    def snapshots(self) -> "list[Snapshot]":
        """The states that the index can go back to, oldest first, the present one last, as they are now on disk."""
        return snapshots.listed(self.path)

    def restore(self, version: int) -> int:
        """Make an earlier state the present one, as a new version, which is returned; nothing is lost by it.

        Raises `UsageError` where there is no such snapshot, `IndexFolderError` where its files are gone, `LockedError`.
        """
        with sole_writer(self.path / LOCK):
            state = snapshots.restore(self.path, version)
        self._move_to(state)
        return self.version

    def search(
        self,
        query: Any,
        *,
        top_k: int = 10,
        offset: int = 0,
        weights: Sequence[float] | None = None,
        subtract: Any = (),
        crop: tuple[int, int, int, int] | None = None,
        where: str | Mapping[str, Any] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        group_size: int = 1,
        diverse: float | None = None,
        rerank: int | None = None,
        ranker: Any = None,
        expand: int = 0,
        metadata: Mapping[str, Any] | None = None,
        user: str = "",
    ) -> "list[Hit]":
        """The pictures most alike, best first; those of one score by the order in which they were added.

        `query` is a picture (a path or a hit's uri, bytes, a PIL image, an (H, W, 3) uint8 array, an `ImageId`, an
        `EncodedPicture`) or a list of them, searched by their mean. A str that names no file may be the id of an image.
        What the options mean is told at `SearchConfig`, in `indexer.searching.search_config`.

        Raises `ImageError`, `UsageError`, `DamagedError`, `WeightsError`; `MismatchError` for a ranker of another
        model, `IndexFolderError` where a ranker is asked for and there are no tokens.
        """
        (hits,) = self.search_many(
            [query],
            top_k=top_k,
            offset=offset,
            weights=weights,
            subtract=subtract,
            crop=crop,
            where=where,
            min_score=min_score,
            group_by=group_by,
            group_size=group_size,
            diverse=diverse,
            rerank=rerank,
            ranker=ranker,
            expand=expand,
            metadata=metadata,
            user=user,
        )
        return hits

    def search_many(self, queries: Sequence[Any], **options: Any) -> "list[list[Hit]]":
        """The hits of each query, as `search` gives them with the same `options`; faster than one by one."""
        from indexer.searching.search_config import SearchConfig

        arguments.check_several(queries=queries)
        config = SearchConfig(**options)
        return self._unswept(lambda: self._open_searcher().search(queries, config))

    def check_search(self, pictures: Sequence[Any] = (), **options: Any) -> None:
        """Raise what a search for these pictures with these `options` would, as far as it shows beforehand.

        That is before the model is loaded and before a picture is read: what `check_by_catalog` tells, then a ranker
        that is none.
        """
        from indexer.searching.search_config import SearchConfig

        self.check_by_catalog(pictures, **options)
        self._unswept(lambda: self._open_searcher().check(SearchConfig(**options)))

    def check_by_catalog(self, pictures: Sequence[Any] = (), **options: Any) -> None:
        """Raise what a search would for a wrong option, filter or column, a file or an id that is not there.

        That needs neither torch nor FAISS, nor does it matter where the model lies.
        """
        from indexer.searching import foreseen
        from indexer.searching.search_config import SearchConfig

        arguments.check_several(pictures=pictures)
        config = SearchConfig(**options)
        self._unswept(lambda: foreseen.check(self._open_catalog(), self._model, pictures, config))

    def uri_of(self, name: str) -> str:
        """Where the picture lies that a str means in a query: at that very path, or that of the image of this id."""
        return self._unswept(lambda: self._open_searcher().uri_of(name))

    def encode_pictures(
        self, pictures: Sequence[Any], *, crop: tuple[int, int, int, int] | None = None, on_error: str = "stop"
    ) -> "list[EncodedPicture | SpyglassError]":
        """Each picture, as `search` takes it, read and encoded once, to be searched by as often as one likes.

        `crop` keeps that part of each. A picture that cannot be had is raised as `ImageError`, `UsageError` or
        `MismatchError` (`on_error` "stop"), or that error stands in its place ("skip").
        """
        arguments.check_several(pictures=pictures)
        arguments.check_crop(crop)
        return self._unswept(lambda: self._open_searcher().encode(pictures, crop, on_error))

    def explain(
        self,
        query: Any,
        image: "str | Hit",
        *,
        ranker: Any = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> "MatchExplanation":
        """Which places of an image a ranker compares with which of a query's, one picture as `search` takes it.

        `image` is a hit or an id. Its picture is read again: no index keeps where its tokens lie. Raises `ImageError`
        where that is gone, and what `search` raises.
        """
        from indexer.searching.hits import Hit

        arguments.check_crop(crop)
        if not isinstance(image, Hit):
            arguments.check_id(image)
        return self._open_searcher().explain(query, image, ranker, crop)

    def near_duplicates(
        self,
        threshold: float = 0.95,
        *,
        where: str | Mapping[str, Any] | None = None,
        exact: bool = False,
        show_progress_bar: bool = False,
    ) -> "list[list[NearDuplicate]]":
        """Groups of images that are nearly the same, the largest first; in each the one with the most pixels first.

        Two images are where the cosine of their stored vectors is at least `threshold` (above 0, to 1), and a group
        holds all that such pairs link, so that its ends may be less alike. Files of the same bytes always are. Of
        50,000 images or more a pair may be missed, unless `exact` (`indexer.searching.alike`). `where` is as in
        `search`. No model is loaded. Raises `UsageError`, `DamagedError`.
        """
        import numpy as np

        from indexer.searching import near_duplicates

        def groups() -> "list[list[NearDuplicate]]":
            gallery = self._open_gallery()
            rows = np.flatnonzero(gallery.catalog.live) if where is None else gallery.catalog.where(where)
            return near_duplicates.near_duplicates(
                gallery, rows, threshold, is_exact=exact, show_progress_bar=show_progress_bar
            )

        return self._unswept(groups)

    def info(self) -> dict[str, Any]:
        """What the index holds, by its manifest, and the names of the `rankers` that there are for it.

        `foreign_rankers` are its own ones for another model, such as it had before. `size_bytes` is that of all files
        which the manifest names, `token_bytes` what an image's tokens may take.
        """
        from indexer.judgments import ranker_folders

        return self._manifest.info() | {
            "rankers": ranker_folders.known(self.path, self._model),
            "foreign_rankers": ranker_folders.foreign(self.path, self._model),
        }

    def verify(self) -> list[str]:
        """Read every file of the index as it is now: a line for each that is not as it was written."""
        from indexer.changes import verifying

        return list(verifying.problems(self.path))

    def catalog(self) -> "pd.DataFrame":
        """One row an image: id, uri, sha256, width, height, bytes, dim, bucket, label, and the sources' own columns."""
        return self._open_gallery().catalog.live_rows().to_pandas()

    def column_names(self) -> list[str]:
        """The names of the catalog's columns, in order; raises `DamagedError`."""
        return self._unswept(lambda: self._open_catalog().column_names)

    def columns(self, *, most_values: int = 200) -> "list[ColumnSummary]":
        """What there is in each column of the catalog, in order: its values, where there are at most `most_values`."""
        from indexer import column_summary

        def summaries() -> "list[ColumnSummary]":
            catalog = self._open_gallery().catalog
            return [
                column_summary.summary(name, catalog.live_column(name), most_values=most_values)
                for name in catalog.column_names
            ]

        return self._unswept(summaries)

    def overview(self) -> "Overview":
        """The figures of the corpus: formats, labels, sizes, histograms, the plainest and the most crowded images."""
        from indexer.overview import overview

        return self._unswept(lambda: overview(self._open_gallery().catalog))

    def sample(
        self, num_images: int, *, where: str | Mapping[str, Any] | None = None, seed: int = 0, offset: int = 0
    ) -> "pd.DataFrame":
        """Rows of the catalog drawn at random, without repeats, of the images for which `where` holds, if it is given.

        The same `seed` gives the same order, of which these are `offset` and after. Raises `UsageError`.
        """
        from indexer.searching import browsing

        arguments.check_integers(num_images=num_images, seed=seed, offset=offset)
        return browsing.sample(self._open_gallery(), num_images, where, seed, offset)

    def embedding_map(self, num_images: int = 2000, *, seed: int = 0) -> "pd.DataFrame":
        """A map of at most `num_images` images, drawn at random: rows of the catalog with `x` and `y`.

        Those are the places of their vectors in the plane in which they differ most (principal components).
        """
        from indexer.searching import browsing

        arguments.check_integers(num_images=num_images, seed=seed)
        return browsing.embedding_map(self._open_gallery(), num_images, seed)

    def failures(self) -> list[dict[str, Any]]:
        """The pictures that could not be read so far: `id, uri, reason, when` of each, and what its source said of it.

        That is `source`, `label`, `columns` (a dict) and `listed_in`. Raises `DamagedError`, `IndexFolderError`.
        """
        from indexer.changes import failures

        return failures.read(self.path)

    def ranker_in_use(self) -> str | None:
        """The name of the ranker that was chosen with `use_ranker`; None for the one beside the model's weights."""
        from indexer.judgments import ranker_choice

        return ranker_choice.read(self.path)

    def ranking_state(self) -> Hashable:
        """What orders hits beside `version`: the ranker in use, all rankers' weights and the judgments.

        Equal for as long as nobody chose or trained a ranker, or judged: a search gives the same until then.
        """
        from indexer import feedback
        from indexer.judgments import ranker_choice, ranker_folders

        judged = tuple(path.name for path in feedback.files(self.path))
        return ranker_choice.read(self.path), ranker_folders.all_written(self.path, self._model), judged

    def use_ranker(self, name: str | None) -> None:
        """Let every search use the ranker of this name where none is named; None for the one beside the model.

        That holds for all processes at once, from their next search on. `name` is one of `info()["rankers"]`; raises
        `UsageError` for another, `IndexFolderError` where nobody may write.
        """
        from indexer.judgments import ranker_choice

        known = self.info()["rankers"]
        if name is not None and name not in known:
            raise UsageError(f"expected a ranker of {self.path} ({', '.join(known) or 'none yet'}), got {name!r}")
        ranker_choice.write(self.path, name)

    @property
    def gallery(self) -> "Gallery":
        """The catalog, vectors and tokens of the images, in the state that is open; raises `DamagedError`."""
        return self._open_gallery()

    def row(self, image_id: str) -> dict[str, Any] | None:
        """What the catalog says of one image, by column name; None where the index has none of that id."""
        arguments.check_id(image_id)
        catalog = self._open_gallery().catalog
        number = catalog.number_of(image_id)
        return None if number is None else catalog.row(number)

    def read_image(self, uri: str) -> bytes:
        """The bytes of the picture that a hit's `uri` names; raises `ImageError` where it is gone."""
        from indexer.corpus import read_image

        return read_image(uri)

    def export(self, out: str | Path, *, tokens: bool = True) -> int:
        """Write ids, metadata, dims, vectors and, with `tokens`, tokens to a .parquet file; returns how many rows.

        Each vector is a list of its bucket's numbers; the schema's metadata tell the model. `import_` and other tools
        read it. Nothing is written by half. Raises `UsageError`, `DamagedError`, `SpyglassError` for a full disk.
        """
        from indexer.changes import exporting

        return self._unswept(lambda: exporting.export(self.path, self._manifest, Path(out), tokens=tokens))

    def import_(self, file: str | Path) -> "ImportReport":
        """Add the rows of a file that an index of the same model was exported to.

        An id that is here already is replaced if its picture is another one, and left as it is if not; all rows are
        added or none. `indexer.changes.importing.import_file` makes an index of such a file. Raises `SourceError`,
        `MismatchError`, `LockedError`, `IndexFolderError`.
        """
        from indexer.changes import importing

        report = importing.import_file(file, self.path)
        self._move_to(manifest.read(self.path))
        return report

    def record_feedback(self, query: Any, image: str, relevant: bool, *, user: str = "") -> "Judgment":
        """Keep that `image`, an id of the index, is or is not what was looked for with `query`; needs no lock.

        `query` is an id or uri of the index, or else one picture as `search` takes it, of which a small copy is kept.
        `user` says whose judgment it is, "" for nobody in particular. Saying something else later supersedes it. Raises
        `UsageError`, which names the closest ids where the index has none such, `ImageError`, `IndexFolderError`.
        """
        from indexer import feedback
        from indexer.judgments import judging

        row = {"query": query, "image": image, "relevant": relevant, "user": user}
        (judgment,) = judging.Judge(self.path, self._images()).judge([row])
        if isinstance(judgment, Exception):
            raise judgment
        feedback.append(self.path, [judgment])
        return judgment

    def record_feedback_rows(self, rows: Iterable[Mapping[str, Any]], *, on_error: str = "stop") -> "FeedbackReport":
        """Keep many judgments: mappings with `query`, `image`, `relevant`, perhaps `user` and `when` (ISO 8601).

        All are checked before anything is written. A bad row is raised as `UsageError` with its number, counted from 1
        (`on_error` "stop"), or left out and reported ("skip"). What was recorded before, at the same `when`, is
        unchanged. Raises `DamagedError`, `IndexFolderError`.
        """
        from indexer.judgments import judging

        return judging.record(self.path, self._images(), rows, on_error)

    def feedback(self, user: str | None = None, *, superseded: bool = False) -> "pd.DataFrame":
        """The judgments, all or of one `user`, in order of `when`; columns as the fields of `feedback.Judgment`.

        As they are now on disk, whatever snapshot is open; they may speak of images that were removed since. With
        `superseded` also those that the same user has replaced by a later one. Raises `DamagedError`.
        """
        from indexer import feedback

        judgments = feedback.read(self.path)
        if not superseded:
            judgments = feedback.latest(judgments)
        return judgments if user is None else judgments[judgments["user"] == user].reset_index(drop=True)

    def _open_catalog(self, state: Manifest | None = None) -> "StoredCatalog":
        """That of `state`, by default the one that is open."""
        state, known = state or self._manifest, self._catalog
        if known is None or known[0] is not state:
            from indexer import segments
            from indexer.stored_catalog import StoredCatalog

            known = self._catalog = state, StoredCatalog(segments.read(self.path, state))
        return known[1]

    def _open_gallery(self) -> "Gallery":
        opened = self._gallery  # another thread may move on to a newer state meanwhile
        if opened is None:
            opened = self._gallery = self._unswept(lambda: self._read_gallery(self._manifest))
        return opened

    def _read_gallery(self, state: Manifest) -> "Gallery":
        from indexer.searching import gallery

        return gallery.read(self.path, state, self._device, self._open_catalog(state))

    def _unswept(self, read: Callable[[], T]) -> T:
        """What `read` gives; where a `compact` has swept files of this state meanwhile, once more at the newest one."""
        while True:
            try:
                return read()
            except DamagedError:
                state = snapshots.successor(self.path, self._manifest)
                if state is None:
                    raise
                if self._is_pinned:
                    raise snapshots.swept(self.path, self.version) from None
                self._move_to(state)

    def _move_to(self, state: Manifest) -> None:
        if not _fits(self._embedder, state):
            self._embedder = None  # a state of another model: its own is loaded when it is first needed
        self._manifest, self._catalog, self._gallery, self._is_pinned = state, None, None, False

    def _open_searcher(self) -> "Searcher":
        gallery = self._open_gallery()
        if self._searcher is None or self._searcher.gallery is not gallery:
            from indexer.searching.searcher import Searcher

            self._searcher = Searcher(self.path, self._manifest, gallery, self._model, lambda: self.embedder)
        return self._searcher

    def _images(self) -> "Images":
        """The ids and uris of the images, from memory where a search has brought them there."""
        from indexer.judgments import judging

        if self._gallery is None:
            return judging.images_of(self.path, self._manifest)
        return self._gallery.catalog.live_column


def _fits(embedder: Any, state: Manifest) -> bool:
    return embedder is None or embedder.fingerprint == state.model.fingerprint
