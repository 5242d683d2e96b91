"""Pictures over HTTP, beside the page: of the index and of those that visitors gave, and the way to give one.

A picture is named by its reference alone, the id of an image or the sha256 of what was given: no path ever comes from a
browser. One that cannot be read is answered by a picture that says so: a hole in the page would say less.
"""

import html
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retrieval.errors import ImageError
from ui.page.query_state import upload_ref
from ui.page.uploads import MAX_BYTES
from ui.page.workbench import current

_HOME = "/pictures"
_OWN_HEADER = "x-spyglass"
_GONE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 320" font-family="sans-serif" text-anchor="middle">
<rect width="320" height="320" fill="#8b94a3" fill-opacity=".25"/>
<text x="160" y="156" font-size="22" fill="#7a8392">cannot be read</text>
<title>{reason}</title></svg>"""


def picture_url(kind: str, ref: str, version: int) -> str:
    """Where a page finds a picture: `kind` is "tile", "large" or "attention"; a new `version` is another address."""
    return f"{_HOME}/{kind}?ref={quote(ref, safe='')}&v={version}"


def routes() -> list[Route]:
    """What the server answers beside the page itself."""
    return [
        Route(_HOME, _give, methods=["POST"]),
        *(Route(f"{_HOME}/{kind}", endpoint(kind), methods=["GET"]) for kind in ("tile", "large", "attention")),
    ]


def endpoint(kind: str):
    """Answers with one kind of picture; not `async`, so that decoding it happens in a thread."""

    def show(request: Request) -> Response:
        workbench = current()
        draw = {"tile": workbench.pictures.tile, "large": workbench.pictures.large, "attention": workbench.attention}[
            kind
        ]
        try:
            data = draw(request.query_params.get("ref", ""))
        except ImageError as error:
            gone = _GONE.format(reason=html.escape(str(error)))
            return Response(gone, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    return show


async def _give(request: Request) -> Response:
    """Keep a picture, the body of the request: `{"ref": …}`, or `{"problem": …}` in words for the visitor."""
    from starlette.concurrency import run_in_threadpool

    # A header of our own: a page of another site cannot send it without asking first, which nobody here allows.
    if _OWN_HEADER not in request.headers:
        return JSONResponse({"problem": "expected a picture from this page, got one from elsewhere"}, status_code=403)
    too_large = f"expected a picture of at most {MAX_BYTES // 2**20} MB, got a larger one"
    if _declared(request.headers) > MAX_BYTES:
        return JSONResponse({"problem": too_large})
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            return JSONResponse({"problem": too_large})
    try:
        sha256 = await run_in_threadpool(current().pictures.uploads.add, bytes(data))
    except ImageError as error:
        return JSONResponse({"problem": str(error)})
    return JSONResponse({"ref": upload_ref(sha256)})


def _declared(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0
