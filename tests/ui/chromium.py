"""A real Chromium without a window, asked over a pipe what it makes of a page (DevTools protocol; no port is opened)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
WHY_NOT = "needs Chromium: apt-get install chromium"

# Everything that lies beyond the right edge of the page, or of the drawing that it is in.
_BEYOND = """
(() => {
  const wide = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > wide) found.push('page: ' + document.documentElement.scrollWidth + ' > ' + wide);
  for (const one of document.querySelectorAll('body *')) {
    const box = one.getBoundingClientRect();
    if (!box.width || one.closest('thead')) continue;
    const svg = one.closest('svg.plot'), edge = svg ? svg.getBoundingClientRect() : {left: 0, right: wide};
    const isText = one.tagName === 'text' || !svg;
    if (isText && (box.right > edge.right + 1 || box.left < edge.left - 1))
      found.push(one.tagName + ' ' + (one.textContent || '').slice(0, 40) + ' ' + box.left + '..' + box.right + ' of ' + edge.right);
    if (!svg && one.scrollWidth > one.clientWidth + 1 && one.clientWidth && getComputedStyle(one).display !== 'inline')
      found.push(one.tagName + ' is cut: ' + one.textContent.slice(0, 40));
  }
  return found;
})()
"""

# Contrast by WCAG 2 of each text against the nearest ground that is not see-through; of texts in plots against their halo.
_PALE = """
(() => {
  const part = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const c = numbers(getComputedStyle(one).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const one of document.querySelectorAll('body *')) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !one.getBoundingClientRect().width) continue;
    const look = getComputedStyle(one), drawn = one.tagName === 'text';
    if (one.tagName === 'title' || one.tagName === 'desc') continue;
    const ink = numbers(drawn ? look.fill : look.color), behind = drawn && look.stroke !== 'none' ? numbers(look.stroke) : ground(one);
    const [low, high] = [light(ink), light(behind)].sort((a, b) => a - b), ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found[one.tagName + '.' + (one.getAttribute('class') || '')] = ratio;
  }
  return found;
})()
"""


class Chromium:
    """One browser with one page."""

    def __init__(self, folder: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        command = [
            PROGRAM, "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-sync",
            "--no-default-browser-check", "--hide-scrollbars", "--disable-component-update", *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
        ]  # fmt: skip
        # The browser reads from descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec 3<&{to_browser[0]} 4>&{from_browser[1]}; exec "$@"', "bash", *command]
        self._said = folder / "said.txt"
        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                shell, pass_fds=(to_browser[0], from_browser[1]), stdout=subprocess.DEVNULL, stderr=said
            )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self._to, self._from = to_browser[1], from_browser[0]
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = str(self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network", "Audits", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, *, patience_s: float = 60.0, **parameters: object) -> dict[str, Any]:
        """Ask, and return the answer; what happens meanwhile is kept in ``events``."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._messages(patience_s):
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)
        raise TimeoutError(f"Chromium did not answer {method} in {patience_s:g} s")

    def _messages(self, patience_s: float) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + patience_s
        while True:
            while b"\0" in self._buffer:
                message, _, self._buffer = self._buffer.partition(b"\0")
                yield json.loads(message)
            if not select.select([self._from], [], [], max(until - time.monotonic(), 0))[0]:
                return
            read = os.read(self._from, 1 << 20)
            if not read:
                raise RuntimeError(f"Chromium ended: {self._said.read_text(errors='replace')[-2000:]}")
            self._buffer += read

    def show(self, page: Path, *, width: int, scheme: str, media: str = "screen", script: bool = False) -> None:
        """Load a page and wait until it is there."""
        self.events.clear()
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=wanted)
        self.ask("Page.navigate", url=page.as_uri())
        until = time.monotonic() + 60
        while not any(one.get("method") == "Page.loadEventFired" for one in self.events):
            assert time.monotonic() < until, "the page did not load"
            self.events += list(self._messages(0.05))

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def beyond(self) -> list[str]:
        """Return what lies beyond the edges."""
        return list(self.value(_BEYOND))

    def pale(self) -> dict[str, float]:
        """Return the texts whose contrast is below 4.5, with it."""
        return dict(self.value(_PALE))

    def complaints(self) -> list[str]:
        """Return everything that the browser had to say: messages, errors, refusals of the page's policy."""
        found = []
        for one in self.events:
            method, said = one.get("method", ""), one.get("params", {})
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                found.append(json.dumps(said)[:400])
            elif method == "Log.entryAdded":
                found.append(str(said["entry"]["text"]))
            elif method == "Audits.issueAdded":
                found.append(json.dumps(said["issue"])[:400])
        return found

    def requests(self) -> list[str]:
        """Return what was fetched, the page itself included."""
        sent = [
            one["params"]["request"]["url"] for one in self.events if one.get("method") == "Network.requestWillBeSent"
        ]
        return [str(url) for url in sent]

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def paper(self) -> bytes:
        """Return the page as a PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """Start a browser, and end it."""
    with Chromium(folder) as browser:
        yield browser
