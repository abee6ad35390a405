"""A real Chromium without a window, driven over a pipe by its own protocol (CDP): no package, no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = f"no browser is installed, so pages were not looked at: apt-get install chromium (looked for {NAMES[0]} …)"
SWITCHES = """--headless --no-sandbox --disable-gpu --remote-debugging-pipe --hide-scrollbars --no-first-run
--mute-audio --disable-extensions --disable-background-networking --disable-dev-shm-usage --disable-component-update
--font-render-hinting=none""".split()
TIMEOUT = 60  # seconds
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37}


def installed_browser() -> str | None:
    """The program, or None. `SELFALIGN_BROWSER` names another one."""
    named = os.environ.get("SELFALIGN_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are numbered away from 3 and 4, which the browser uses."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


class Browser:
    """A running Chromium.

    Args:
        program: its path.
        profile: an empty folder.
    """

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._to = _pipe()
        self._from, theirs_out = _pipe()
        silence = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
        places = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
        command = [program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        self.number = os.posix_spawn(program, command, os.environ, file_actions=[*silence, *places])
        os.close(theirs_in)
        os.close(theirs_out)
        self._count, self._read = 0, b""
        self.pages: dict[str, Page] = {}

    def page(self) -> Page:
        """A new page of its own, without memory of others."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        self.pages[session] = page
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            page.ask(f"{domain}.enable")
        page.look(1200, 800)
        return page

    def close(self) -> None:
        self.ask("Browser.close")
        os.waitpid(self.number, 0)
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its answer; events that come before it are noted."""
        self._count += 1
        number = self._count
        request = {"id": number, "method": method, "params": parameters}
        if session is not None:
            request["sessionId"] = session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        for message in self._messages():
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self._note(message)
        raise AssertionError(f"the browser did not answer {method}")

    def _note(self, message: dict[str, Any]) -> None:
        page = self.pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.note(message["method"], message["params"])

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            whole, found, rest = self._read.partition(b"\0")
            if found:
                self._read = rest
                yield json.loads(whole)
                continue
            if select.select([self._from], [], [], 1)[0]:
                chunk = os.read(self._from, 1 << 16)
                assert chunk, "the browser ended"
                self._read += chunk


class Page:
    """A page of the browser.

    Attributes:
        faults: exceptions of scripts and what the browser complained about, violations of the page's policy too.
        requests: addresses that it asked for, embedded data aside.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session
        self.faults: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **parameters)

    def note(self, method: str, details: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.faults.append(str(details["exceptionDetails"].get("exception", {}).get("description")))
        if method == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.faults.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
        if method == "Network.requestWillBeSent" and not details["request"]["url"].startswith("data:"):
            self.requests.append(details["request"]["url"])

    def open(self, address: str | Path) -> Page:
        """Open a file or an address, and wait until it is there."""
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        answer = self.ask("Page.navigate", url=url)
        assert not answer.get("errorText"), answer
        self.until("document.readyState === 'complete'")
        return self

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, once it is kept."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + TIMEOUT
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < deadline, (condition, self.faults, self.run("document.body.innerText"))
            time.sleep(0.02)

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def count(self, selector: str) -> int:
        return int(self.run(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def click(self, selector: str) -> None:
        """Click the middle of an element, with a real event of the mouse."""
        found = json.dumps(selector)
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({found}); e.scrollIntoView({{block: 'center'}}); "
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        extra = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        code = {"windowsVirtualKeyCode": KEYS[key], "key": key, "code": "Space" if key == " " else key}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **code, **extra)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def spoken(self) -> list[tuple[str, str]]:
        """Roles and names that a screen reader is given."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node["ignored"]
        ]

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Choose the size of the window, and light or dark."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
