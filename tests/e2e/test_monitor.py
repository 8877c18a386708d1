"""`furiosactl monitor` on a terminal, against a broker that is killed and comes back."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from support.daemon import FURIOSACTL, Daemon

SECONDS = 60
_CODE = re.compile(r"\x1b(?:\[[0-9;?<>=$]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class Screen:
    """A program on a pseudo-terminal. `until` waits for a text in what it writes from now on."""

    def __init__(self, daemon: Daemon, columns: int, lines: int, **environ: str) -> None:
        self._fd, theirs = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-c", FURIOSACTL, "monitor", "--interval", "200"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**daemon.environ, "TERM": "xterm-256color", **environ},
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> str:
        """Without the codes of the terminal."""
        seen, end = "", time.monotonic() + SECONDS
        while text not in _CODE.sub("", seen):
            assert time.monotonic() < end, (
                f"{text!r} did not come, but {_CODE.sub('', seen)[-3000:]!r}"
            )
            part = self._read()
            assert part, f"it ended without {text!r}: {seen[-3000:]!r}"
            seen += part
        return _CODE.sub("", seen)

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _read(self) -> str:
        """Empty at the end."""
        ready, _, _ = select.select([self._fd], [], [], SECONDS)
        assert ready, "nothing came"
        with contextlib.suppress(OSError):  # nobody has the other end any more
            part = os.read(self._fd, 1 << 16).decode(errors="replace")
            self.raw += part
            return part
        return ""


@pytest.fixture
def screen(daemon: Daemon) -> Iterator[Screen]:
    made = Screen(daemon, 80, 24)
    yield made
    made.close()


def test_it_shows_a_lease_revokes_it_and_outlasts_the_broker(
    daemon: Daemon, screen: Screen
) -> None:
    with Connection.open(client="test") as connection:
        lease = connection.acquire(DeviceSpec.parse("npu0pe0"))
        screen.until(lease.id)
        screen.press("\tx")
        screen.until(f"Revoke lease {lease.id}?")
        screen.press("y")
        screen.until(f"lease {lease.id} is recalled")
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    screen.until("trying again")
    daemon.start()
    screen.until("npu0")
    screen.resize(200, 50)
    screen.until("q quit")
    screen.press("q")
    assert screen.end() == 0
    assert "\x1b[?1049l" in screen.raw  # what was on the terminal before is back


def test_keys_that_come_at_once_are_taken_in_their_order(screen: Screen) -> None:
    screen.until("npu0")
    screen.press("/dxq\r")
    screen.until("filter: dxq")
    screen.press("q")
    assert screen.end() == 0


def test_ctrl_c_leaves_the_terminal_as_it_was(screen: Screen) -> None:
    screen.until("npu0")
    screen.press("\x03")
    assert screen.end() == 130
    assert "\x1b[?1049l" in screen.raw
    assert "Traceback" not in screen.raw


def test_a_terminal_without_colour_gets_none(daemon: Daemon) -> None:
    screen = Screen(daemon, 80, 24, NO_COLOR="1")
    try:
        screen.until("npu0")
        screen.press("q")
        assert screen.end() == 0
        colours = {
            code
            for codes in re.findall(r"\x1b\[([0-9;]*)m", screen.raw)
            for code in codes.split(";")
        }
        assert not {code for code in colours if re.fullmatch(r"[349][0-8]|10[0-7]", code)}
    finally:
        screen.close()


def test_a_termination_leaves_the_terminal_as_it_was(screen: Screen) -> None:
    screen.until("npu0")
    screen.process.terminate()
    assert screen.end() == 1
    assert "\x1b[?1049l" in screen.raw


def test_a_terminal_that_is_closed_ends_it(daemon: Daemon, screen: Screen) -> None:
    screen.until("npu0")
    os.killpg(screen.process.pid, signal.SIGHUP)
    assert screen.process.wait(SECONDS) != 0
