"""A page of Spyglass in a real browser: its server as a process, Chromium without a screen, and what is never seen."""

import base64
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_CHROMIUM = os.environ.get("SPYGLASS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 60_000  # ms; a busy machine is slow, and no test waits longer than it has to


@contextmanager
def server(index: Path, log: Path) -> Iterator[str]:
    """`spyglass ui` on an index, on a free port; yields its address, and ends it."""
    command = [sys.executable, "-m", "ui.cli", "ui", "--index", str(index), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            address = re.search(r"http://\S+", line)
            assert address, f"expected the address of the page, got {line}"
            # Read on, or the server would wait once the pipe is full.
            rest = threading.Thread(target=lambda: log.write_text(process.stderr.read()))
            rest.start()
            yield address[0]
        finally:
            process.terminate()
            process.wait(timeout=30)
        rest.join()


@contextmanager
def chromium():
    """The browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="expected playwright to open pages with")
    if _CHROMIUM is None:
        pytest.skip("expected chromium to open pages with, found none")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """One visitor: a page of the browser, at a width and in a colour scheme, who sees every complaint."""

    def __init__(self, browser, address: str, shots: Path, *, width: int = 1280, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.complaints: list[str] = []
        self._address, self._shots, self._scheme = address, shots, scheme
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._watch)

    def open(self, path: str = "/") -> None:
        """Go to an address of the page, and wait until it is drawn."""
        self.page.goto(self._address + path)
        self.page.wait_for_selector(".panel, [data-testid=stMetric]")
        self.settle()

    def settle(self) -> None:
        """Wait until the server has nothing more to draw."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        self.page.wait_for_function("() => !document.querySelector('[data-stale=true]')")
        self.page.wait_for_timeout(100)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what shows elsewhere than on the page."""
        for _ in range(_PATIENCE // 100):
            if is_so():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("expected it to come about, but it has not")

    def cards(self):
        """The cards of the page's grids."""
        return self.page.locator(".card")

    def card_boxes(self) -> list[dict[str, float]]:
        """Of each card where it lies, in px from the corner of the window, and how wide it is within and without."""
        return self.page.eval_on_selector_all(
            ".card",
            """cards => cards.map((card) => {
                const { left, right, top, bottom, width } = card.getBoundingClientRect();
                return { left, right, top, bottom, width: Math.ceil(width), inner: card.scrollWidth };
            })""",
        )

    def act(self, number: int, action: str) -> None:
        """Click on what a card offers: "only", "more", "less", "relevant", "irrelevant" or "details"."""
        self.cards().nth(number).locator(f"[data-action={action}]").click()
        self.settle()

    def focused(self) -> str:
        """The picture on whose card the keyboard is."""
        return self.page.evaluate(
            """() => {
                let focused = document.activeElement;
                while (focused.shadowRoot?.activeElement) focused = focused.shadowRoot.activeElement;
                return focused.closest(".card").dataset.ref;
            }"""
        )

    def give(self, way: str, picture: Path) -> None:
        """ "drop" or "paste" a picture, and wait for its hits."""
        self.page.evaluate(
            """([way, data]) => {
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                const held = new DataTransfer();
                held.items.add(new File([bytes], "it.jpg", { type: "image/jpeg" }));
                const options = { dataTransfer: held, clipboardData: held, bubbles: true, cancelable: true };
                const event = way === "drop" ? new DragEvent("drop", options) : new ClipboardEvent("paste", options);
                document.body.dispatchEvent(event);
            }""",
            [way, base64.b64encode(picture.read_bytes()).decode("ascii")],
        )
        self.page.wait_for_selector(".figures")
        self.settle()

    def refs(self) -> list[str]:
        """The pictures on the page, in order."""
        return self.page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.ref)")

    def search_with(self, picture: Path) -> None:
        """Choose a file as a query, and wait for its hits."""
        self.page.set_input_files("input[type=file]", picture)
        self.page.wait_for_selector(".figures")
        self.settle()

    def shoot(self, name: str, *, width: int | None = None) -> None:
        """Save what is seen, perhaps at another width, and see that nothing is wrong with it."""
        if width is not None:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.settle()
        width = self.page.viewport_size["width"]
        # Nothing sticks out at the side.
        assert self.page.get_by_test_id("stMain").evaluate("main => main.scrollWidth") <= width
        self.page.screenshot(path=self._shots / f"{name}-{width}-{self._scheme}.png")
        self.check()

    def check(self) -> None:
        """No error, neither on the page nor in the console, and no request to anywhere else."""
        assert self.page.locator("[data-testid=stException]").count() == 0
        assert not re.search(r"Traceback|Exception|Error:", self.page.inner_text("body"))
        assert self.complaints == []

    def leave(self, name: str) -> None:
        """Close it, after a last look."""
        self.page.screenshot(path=self._shots / f"{name}.png")
        self.check()
        self.context.close()

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location}")

    def _watch(self, request) -> None:
        if not request.url.startswith((self._address, "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")
