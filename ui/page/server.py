"""The server of the page: Streamlit's own, with the pictures beside it, in this process until it is stopped."""

import sys
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import SpyglassError, UsageError
from retrieval.extras import packages_for

with packages_for("the page", extra="ui"):
    import streamlit as st
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

from ui.page import first_html, picture_routes
from ui.page import workbench as workbenches
from ui.page.look import THEME
from ui.page.workbench import Workbench
from ui.service.listening import is_loopback, listen

if TYPE_CHECKING:
    from indexer import Index

FIRST_PORT, LAST_PORT = 8501, 8550


def serve(index: "Index", *, host: str, port: int | None, opens_browser: bool) -> None:
    """Show an index until interrupted; raises `UsageError` where the address cannot be listened at.

    Visitors from other machines, where `host` lets them in, may look and judge, but neither add folders nor train.
    """
    port = free_port(host, port)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    workbench = workbenches.use(Workbench(index, may_change=is_loopback(host)))

    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        warming = threading.Thread(target=_warm_up, args=[workbench], name="warm-up")
        warming.start()
        print(f"Spyglass shows {index.path} at {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            workbench.close()
            warming.join()  # an interpreter that ends amid the loading of a model ends badly

    app = st.App(
        Path(__file__).parents[1] / "app.py",
        routes=[*picture_routes.routes(), *first_html.routes(("corpus", "training"))],
        middleware=_guards(host),
        lifespan=lifespan,
        on_script_error=_tell,
    )
    app.run(
        config={
            "server.address": host,
            "server.port": port,
            "server.headless": not opens_browser,
            "server.showEmailPrompt": False,
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "minimal",
            "client.showErrorDetails": "none",
            "logger.hideWelcomeMessage": True,
            "logger.level": "warning",
            **THEME,
        }
    )


def free_port(host: str, port: int | None) -> int:
    """The port, or from the usual one on the first that is free; raises `UsageError` where there is none."""
    for one in range(FIRST_PORT, LAST_PORT) if port is None else ():
        try:
            return free_port(host, one)
        except UsageError:
            continue
    with listen(host, LAST_PORT if port is None else port) as listening:
        return listening.getsockname()[1]


def _guards(host: str) -> list[Middleware]:
    """On this machine alone: no other name for it, by which a page of another site might reach it (DNS rebinding)."""
    if not is_loopback(host) or ":" in host:
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", host])]


def _tell(error: Exception) -> bool:
    """Say on the page, in a line, what went wrong while it was drawn; what is no known error also in the terminal."""
    if isinstance(error, SpyglassError):
        st.error(str(error), icon=":material/error:")
    else:
        traceback.print_exception(error, file=sys.stderr)
        st.error("Something unexpected went wrong; the terminal says more.", icon=":material/error:")
    return True


def _warm_up(workbench: Workbench) -> None:
    try:
        workbench.warm_up()
    except SpyglassError as error:  # the page says so as well, once somebody searches
        print(f"warning: {error}", file=sys.stderr, flush=True)
