"""The HTML of the pages beside the first: Streamlit's own, which is told where its server is before it asks."""

import asyncio
import re
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="expected the packages for the page: pip install 'spyglass-image-search[ui]'")

import httpx  # noqa: E402
from starlette.applications import Starlette  # noqa: E402

import ui  # noqa: E402
from ui.page import first_html  # noqa: E402


def test_the_script_comes_before_all_others():
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Starlette(routes=first_html.routes(("corpus",))))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/corpus")

    page = asyncio.run(ask())
    assert page.headers["content-type"].startswith("text/html") and page.headers["cache-control"] == "no-cache"
    first, *others = re.findall(r"<script.*?</script>", page.text, re.DOTALL)
    assert "window.__streamlit" in first and others
    assert any("static/js/" in script for script in others) and page.text.count("window.__streamlit") == 1


def test_every_page_has_it():
    home = Path(ui.__file__).parent
    pages = re.findall(r'url_path="(\w+)"', (home / "app.py").read_text())
    served = re.search(r"first_html\.routes\(\(([^)]*)\)", (home / "page" / "server.py").read_text())[1]
    assert pages == ["search", *re.findall(r'"(\w+)"', served)]
