"""The HTML that a page begins with where it is opened by its own address: Streamlit's, told where its server is.

Else its script asks for the server below that address first, in vain, and the browser complains of two errors (404).
"""

from functools import cache
from pathlib import Path

import streamlit
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

_TELL = "<script>window.__streamlit = { BACKEND_BASE_URL: new URL('.', location.href).href }</script>"


def routes(pages: tuple[str, ...]) -> list[Route]:
    """What the server answers at the addresses of these pages, such as "corpus"."""
    return [Route(f"/{page}", _begin, methods=["GET"]) for page in pages]


def _begin(request: Request) -> HTMLResponse:
    return HTMLResponse(_html(), headers={"Cache-Control": "no-cache"})


@cache
def _html() -> str:
    html = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
    return html.replace("<head>", f"<head>\n    {_TELL}", 1)
