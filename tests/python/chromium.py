"""A participant in headless Chromium: the bare page of tests/e2e with its `window.lab`."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from playwright.async_api import BrowserContext, async_playwright
from playwright.async_api import Page as BrowserPage

from peer import access_token
from picture import STEP_BACK_LIMIT
from server import ROOT, Server
from waiting import until

E2E = ROOT / "tests/e2e"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=fps=15",
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


COLLECT = """
const Native = window.RTCPeerConnection;
window.allConnections = [];
window.RTCPeerConnection = class extends Native {
  constructor(...args) {
    super(...args);
    window.allConnections.push(this);
  }
};
"""
"""Keeps every connection of the page, for its statistics."""

STATISTICS = """async () => {
  const reports = await Promise.all(window.allConnections.map((connection) => connection.getStats()));
  return reports.flatMap((report) => [...report.values()]);
}"""


class Browser:
    """One Chromium; each page has its own context."""

    async def __aenter__(self) -> Browser:
        subprocess.run(["node", "lib/build.js"], cwd=E2E, check=True)
        self._site = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietFiles, directory=E2E / "out/page"))
        Thread(target=self._site.serve_forever, daemon=True).start()
        self._playwright = await async_playwright().start()
        self._chromium = await self._playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), headless=False, args=FLAGS, ignore_default_args=["--mute-audio", "--headless"]
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._chromium.close()
        await self._playwright.stop()
        self._site.shutdown()
        self._site.server_close()

    async def page(self, server: Server, room: str, identity: str) -> Page:
        """Opens the bare page."""
        context = await self._chromium.new_context()
        await context.add_init_script(COLLECT)
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{self._site.server_port}/")
        return Page(context, page, server, room, identity)


class Page:
    """The questions and orders of tests/e2e/lib/participant.js that these tests need."""

    def __init__(self, context: BrowserContext, page: BrowserPage, server: Server, room: str, identity: str) -> None:
        self._context, self._page = context, page
        self.server, self.room, self.identity = server, room, identity

    async def lab(self, method: str, *args: Any) -> Any:
        """Calls a method of `window.lab`."""
        return await self._page.evaluate("({ method, args }) => window.lab[method](...args)", {"method": method, "args": list(args)})

    async def evaluate(self, script: str) -> Any:
        """Anything else of the page."""
        return await self._page.evaluate(script)

    async def try_join(self, **request: Any) -> dict[str, Any]:
        """Joins and returns the page's answer, also a refusal."""
        token = access_token(self.room, self.identity)
        return await self.lab("join", {"url": self.server.ws_url, "token": token, **request})

    async def join(self) -> None:
        """Joins or fails the test."""
        result = await self.try_join()
        assert result["ok"], result

    async def sees(self, identity: str, picture_id: int, frames: int = 15, step_back_limit: int | None = None) -> dict[str, Any]:
        """Waits until the picture of a participant is read and has moved on by `frames` frames.

        `step_back_limit`: how far it may step back. None: by `STEP_BACK_LIMIT` if the size has changed, as it does when somebody begins,
        and not at all if it has not.
        """
        start = await self._picture(identity, 1)
        report = await self._picture(identity, start["readable"] + frames)
        assert report["ids"] == [picture_id]
        if step_back_limit is None:
            step_back_limit = STEP_BACK_LIMIT if len(report["sizes"]) > 1 else 0
        assert report["backwardBy"] <= step_back_limit, f"frame numbers grow: {report}"
        assert report["lastNumber"] > start["lastNumber"]
        return report

    async def hears(self, identity: str, frequency_hz: int) -> None:
        """Waits until the strongest tone of a participant is this one."""

        async def is_heard() -> bool:
            tone = await self.lab("tone", identity)
            return tone is not None and tone["db"] > -60 and abs(tone["hz"] - frequency_hz) <= 12

        await until(f"{self.identity} hears {frequency_hz} Hz from {identity}", is_heard)

    async def stats(self) -> list[dict[str, Any]]:
        """WebRTC's statistics of all connections, as `getStats()` has them."""
        return await self._page.evaluate(STATISTICS)

    async def close(self) -> None:
        await self._context.close()

    async def _picture(self, identity: str, readable: int) -> dict[str, Any]:
        async def is_seen() -> dict[str, Any] | None:
            report = await self.lab("picture", identity)
            return report if report and report["readable"] >= readable else None

        return await until(f"{self.identity} sees {readable} frames of {identity}", is_seen)


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing on standard error."""
