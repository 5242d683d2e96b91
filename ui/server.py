"""The HTTP service: the routes, and what they answer. `create_app` makes it; `ui.commands.serving` runs it."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Form, Path, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi_offline import FastAPIOffline

from indexer import Hit, Index
from retrieval import __version__
from ui.grouping_note import grouping_note
from ui.service import errors, picture_links
from ui.service.config import ServiceConfig
from ui.service.metrics import CountRequests, ServiceMetrics
from ui.service.models import (
    Answer,
    ErrorModel,
    FeedbackForm,
    Health,
    HitModel,
    InfoModel,
    JudgmentModel,
    RecommendRequest,
    SearchForm,
)
from ui.service.request_limits import BodyLimits, Doorkeeper
from ui.service.search_service import SearchService

_Id = Annotated[str, Path(description="The id of an image of the index.", examples=["boats/01.jpg"])]
_PIECE = 65_536
_MULTIPART = Form(media_type="multipart/form-data")
_REFUSALS = {
    400: "The request cannot be read.",
    401: "The API key is missing, or another.",
    403: "The service has no API key, and was asked under another name than 127.0.0.1 or localhost.",
    408: "The body did not arrive in time.",
    409: "The index does not have what is asked for.",
    413: "The body is too long.",
    422: "A value is not what it should be, or a picture cannot be read.",
    429: "Too many requests of this client; `Retry-After` says when to come back.",
    503: "Too much to do; `Retry-After` says when to come back.",
}
_NOT_FOUND = {404: {"model": ErrorModel, "description": "The index has no image of that id."}}
_GONE = {410: {"model": ErrorModel, "description": "The picture is not what was indexed any more."}}
_PICTURE_TYPES = tuple(f"image/{kind}" for kind in ("avif", "bmp", "gif", "heif", "jpeg", "png", "tiff", "webp"))


def create_app(index: Index, config: ServiceConfig | None = None) -> FastAPI:
    """The service as an ASGI application; the index and its model are read when it starts.

    Raises `UsageError` for a wrong `config`; what is wrong with the index is raised at the start.
    """
    config = config or ServiceConfig()
    metrics = ServiceMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = SearchService(index, config, metrics)
        yield
        app.state.service.close()

    # FastAPI's own page of the API would load its scripts from elsewhere: this one has them with it.
    app = FastAPIOffline(
        redoc_url=None,
        static_url="/docs/assets",
        title="Spyglass",
        summary="Image search that looks only as closely as each picture needs.",
        version=__version__,
        lifespan=lifespan,
        responses={code: {"model": ErrorModel, "description": text} for code, text in _REFUSALS.items()},
    )
    app.state.metrics = metrics
    errors.install(app, str(index.path))
    app.include_router(_router)
    # The last one added is asked first.
    app.add_middleware(BodyLimits, config=config)
    app.add_middleware(Doorkeeper, config=config)
    app.add_middleware(CountRequests, metrics=metrics)
    return app


_router = APIRouter()


@_router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """To what a person may want who has the address alone: the description of the API."""
    return RedirectResponse("/docs")


@_router.post("/v1/search", responses=_NOT_FOUND)
async def search(request: Request, form: Annotated[SearchForm, _MULTIPART]) -> Answer:
    """The images most alike to an uploaded picture, or to an image of the index, best first."""
    service, started = _service(request), time.perf_counter()
    if form.image is None:
        hits = await service.search_images([form.id], [], form.as_arguments(), crop=form.region())
    else:
        hits = await service.search_upload(form.image.file, form.as_arguments(), crop=form.region())
    return _answer(hits, started, form.group_by)


@_router.post("/v1/recommend", responses=_NOT_FOUND)
async def recommend(request: Request, wanted: RecommendRequest) -> Answer:
    """The images most like some images of the index and least like others, best first."""
    started = time.perf_counter()
    hits = await _service(request).search_images(wanted.positives, wanted.negatives, wanted.as_arguments())
    return _answer(hits, started, wanted.group_by)


@_router.post("/v1/feedback", status_code=201, responses=_NOT_FOUND)
async def feedback(request: Request, form: Annotated[FeedbackForm, _MULTIPART]) -> JudgmentModel:
    """Keep that an image is, or is not, what was looked for: rankers learn from it."""
    query = form.query_id if form.query_image is None else form.query_image.file
    judgment = await _service(request).record_feedback(query, form.id, form.relevant, form.user)
    return JudgmentModel(
        query=judgment.query, id=judgment.image, relevant=judgment.relevant, user=judgment.user, when=judgment.when
    )


@_router.head(f"{picture_links.IMAGES}/{{id:path}}", include_in_schema=False)
@_router.get(
    f"{picture_links.IMAGES}/{{id:path}}",
    response_class=Response,
    responses={
        **_NOT_FOUND,
        **_GONE,
        200: {"description": "The file as it was indexed.", "content": {kind: {} for kind in _PICTURE_TYPES}},
        304: {"description": "The client has it already."},
    },
)
async def image(request: Request, id: _Id) -> Response:
    """The picture of an image, as it was indexed."""
    service = _service(request)
    picture = await service.find(id)
    headers = _cached(f'"{picture.sha256}"')
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data, media_type = await service.original(picture)
    # In pieces, so that a slow client is told from one that takes nothing.
    pieces = (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
    return StreamingResponse(_sent(pieces), media_type=media_type, headers=headers | {"Content-Length": str(len(data))})


@_router.head(f"{picture_links.THUMBNAILS}/{{id:path}}", include_in_schema=False)
@_router.get(
    f"{picture_links.THUMBNAILS}/{{id:path}}",
    response_class=Response,
    responses={
        **_NOT_FOUND,
        **_GONE,
        200: {"description": "A small upright JPEG.", "content": {"image/jpeg": {}}},
        304: {"description": "The client has it already."},
    },
)
async def thumbnail(request: Request, id: _Id, size: Literal["160", "320", "640"] = "320") -> Response:
    """The picture of an image, upright, its longer side at most `size` pixels."""
    service = _service(request)
    picture = await service.find(id)
    headers = _cached(f'"{picture.sha256}-{size}"')
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(await service.thumbnail(picture, int(size)), media_type="image/jpeg", headers=headers)


@_router.head("/v1/info", include_in_schema=False)
@_router.get("/v1/info")
def info(request: Request) -> InfoModel:
    """What the index holds."""
    return InfoModel.of(_service(request).info())


@_router.head("/healthz", include_in_schema=False)
@_router.get("/healthz")
async def healthz() -> Health:
    """Whether the service runs; needs no key."""
    return Health()


@_router.head("/metrics", include_in_schema=False)
@_router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}, "description": "Figures."}}
)
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4")


def _service(request: Request) -> SearchService:
    return request.app.state.service


def _answer(hits: list[Hit], started: float, group_by: str | None) -> Answer:
    took_ms = round((time.perf_counter() - started) * 1000, 3)
    note = grouping_note(hits, group_by)
    notes = [] if note is None else [note]
    return Answer.model_construct(hits=[HitModel.of(hit) for hit in hits], took_ms=took_ms, notes=notes)


async def _sent(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _cached(etag: str) -> dict[str, str]:
    # A picture keeps its id when it changes: the client asks again, and is told that it has it already.
    secure = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
    return {"ETag": etag, "Cache-Control": "private, no-cache", **secure}


def _is_known(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]
