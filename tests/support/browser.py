"""A real browser without a window, driven through the pipe of its DevTools protocol.

Messages are JSON objects that end in a NUL byte; the browser reads descriptor 3 and writes 4.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-headless-shell", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # tests may run as root, and show no page but their own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """`complaints` are exceptions, messages on the console and what the browser logs; `requests`
    the addresses it asked for."""

    def __init__(self, into: int, out: int) -> None:
        self._into = into
        self._out = out
        self._rest = b""
        self._calls = 0
        self._session: str | None = None
        self._loaded: set[str] = set()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)

    def open(self, url: str, *, width: int = 1280, height: int = 1400, dark: bool = False) -> None:
        """Returns when the page and its scripts have run."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._go("about:blank")  # else a new fragment would be no new page
        self.complaints, self.requests = [], []
        self._go(url)

    def value(self, expression: str) -> Any:
        """Of JavaScript, as JSON has it; a promise is waited for."""
        found = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False, count: int = 1) -> None:
        """`kind`: mouseMoved, mousePressed, mouseReleased; `held`: it moves with its button down."""
        button = "none" if kind == "mouseMoved" and not held else "left"
        down = 1 if held or kind == "mousePressed" else 0
        self._call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=down,
            clickCount=count,
        )

    def click(self, x: float, y: float, *, count: int = 1) -> None:
        """`count` 2: a double click."""
        for number in range(1, count + 1):
            self.mouse("mousePressed", x, y, count=number)
            self.mouse("mouseReleased", x, y, count=number)

    def key(self, name: str) -> None:
        text = {"text": name} if len(name) == 1 else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def complaint(self) -> str:
        """The first one, which is waited for: what the browser logs may come late."""
        while not self.complaints:
            self._receive()
        return self.complaints[0]

    def screenshot(self) -> bytes:
        """A PNG of what is in view."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _go(self, url: str) -> None:
        loader = self._call("Page.navigate", url=url)["loaderId"]
        while loader not in self._loaded:
            self._receive()

    def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._into, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._calls:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._out, 1 << 16)
            if not data:
                raise EOFError("the browser has gone")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, found: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and found["name"] == "load":
            self._loaded.add(found["loaderId"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(found))


@contextmanager
def browsing(home: Path) -> Iterator[Page]:
    """One page of a browser that keeps its profile in `home`. `executable()` must be there."""
    program = executable()
    assert program is not None
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    # dup2 in two steps: the descriptors may be 3 and 4 already, in either order
    script = f'exec 98<&{theirs_in} 99>&{theirs_out} 3<&98 4>&99 98<&- 99>&-; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *_OPTIONS, f"--user-data-dir={home}"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(home)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_in, ours_out)
    finally:
        os.close(ours_in)  # which tells it to go
        os.close(ours_out)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
