"""The broker that a user without a system broker gets: started on first use, shared by his processes.

It lives in a folder that nobody else can enter. Whoever wants to start it takes a lock there first, so
ten processes that begin at once start one broker. The steps that wait are in `_async.attach`.
"""

import contextlib
import errno
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from furiosa.client import address
from furiosa.client.address import UnixAddress
from furiosa.common.errors import BadArgument, BrokerUnavailable

START_SECONDS: Final = 15.0  # from the spawn to READY; nobody holds the lock for longer
MAX_CARDS: Final = 16
READY: Final = b"READY\n"
_CARDS: Final = {str(number): number for number in range(1, MAX_CARDS + 1)}
_LOG_TAIL_BYTES: Final = 2000

# A process of its own between us and the broker: it ends at once, so that the broker becomes a child
# of init and leaves no zombie in a client that outlives it.
_DETACH: Final = "import os, sys\nif os.fork() == 0: os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Home:
    """A folder that is this user's alone, and the broker that lives or will live there."""

    folder: str
    address: UnixAddress
    cards: int

    @property
    def log(self) -> str:
        return os.path.join(self.folder, "broker.log")


Command = Callable[[Home, int], Sequence[str]]


def command(home: Home, ready_fd: int) -> Sequence[str]:
    """Starts a broker in `home` that says READY on `ready_fd`."""
    return (
        *(sys.executable, "-P", "-m", "furiosa.broker", "--embedded"),  # -P: not from this folder
        *("--socket", home.address.path, "--state", home.folder),
        *("--emulate", str(home.cards), "--ready-fd", str(ready_fd), "--idle-exit", "60"),
    )


def home(environ: Mapping[str, str]) -> Home:
    """The user's home for a broker, made if need be.

    Raises: BrokerUnavailable when it could be somebody else's, for then so could the broker be;
    BadArgument for a bad FURIOSA_EMULATE.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    usable = os.path.isabs(runtime) and _is_own(runtime)
    folder = address.user_folder(runtime if usable else None, _temp_folder, os.geteuid())
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as exc:
        raise BrokerUnavailable(folder, f"cannot make its folder: {exc.strerror}") from None
    if not _is_own(folder):
        raise BrokerUnavailable(
            folder,
            f"the folder must be a directory of user {os.geteuid()} that nobody else may enter",
        )
    return Home(folder, address.in_folder(folder), cards(environ))


def cards(environ: Mapping[str, str]) -> int:
    """How many cards FURIOSA_EMULATE asks for, 1 unless it is set. Raises: BadArgument."""
    text = environ.get("FURIOSA_EMULATE", "") or "1"
    if text not in _CARDS:
        raise BadArgument("FURIOSA_EMULATE", repr(text), f"a number of cards from 1 to {MAX_CARDS}")
    return _CARDS[text]


def try_lock(home: Home) -> int | None:
    """A descriptor that holds the right to start a broker until it is closed; None: another has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(os.path.join(home.folder, "start.lock"), flags, 0o600)
    except OSError as exc:
        raise BrokerUnavailable(str(home.address), f"start.lock: {exc.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno == errno.EWOULDBLOCK:
            return None
        raise BrokerUnavailable(str(home.address), f"start.lock: {exc.strerror}") from None
    return fd


class Starting:
    """A broker that has been spawned. Wait for `pipe` to be readable, `feed`, until it says True.

    Use as a context: leaving it before READY kills what was started.
    """

    def __init__(self, home: Home, command: Command = command) -> None:
        """Raises: BrokerUnavailable when not even the spawn works."""
        import subprocess  # 16 ms, and only the first process of a user starts a broker

        self._home = home
        self._said = b""
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.pipe, ready = os.pipe()
        try:
            log = os.open(home.log, log_flags, 0o600)
            try:
                self._log_start = os.fstat(log).st_size
                # A session without a terminal: a Ctrl-C meant for the client must not reach it. The
                # helper leads the process group, so the group's number is ours until we reap it.
                self._helper = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _DETACH, *command(home, ready)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(ready,),
                    start_new_session=True,
                    cwd=home.folder,  # nothing in the caller's folder may be imported by accident
                    env=_environment(os.environ),
                )
            finally:
                os.close(log)
        except OSError as exc:
            os.close(self.pipe)
            raise BrokerUnavailable(str(home.address), f"cannot start one: {exc}") from None
        finally:
            os.close(ready)

    def __enter__(self) -> "Starting":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.pipe)
        if self._said != READY:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._helper.pid, signal.SIGKILL)
        self._helper.wait()

    def feed(self) -> bool:
        """Read the pipe; whether the broker is ready. Raises: BrokerUnavailable when it has ended."""
        data = os.read(self.pipe, len(READY) - len(self._said))
        self._said += data
        if not data or not READY.startswith(self._said):
            raise self.failure("it ended before it was ready")
        if self._said != READY:
            return False
        if sys.stderr is not None:
            sys.stderr.write(
                f"furiosa: started a broker with {self._home.cards} emulated Warboy card(s) "
                f"for this user (log: {self._home.log})\n"
            )
        return True

    def failure(self, cause: str) -> BrokerUnavailable:
        """With the last lines that the broker wrote."""
        with open(self._home.log, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace").strip()
        said = f"; the end of {self._home.log}:\n{tail}" if tail else f"; {self._home.log} is empty"
        return BrokerUnavailable(str(self._home.address), f"started one, but {cause}{said}")


def _temp_folder() -> str:
    import tempfile  # 15 ms, and most users have $XDG_RUNTIME_DIR

    return tempfile.gettempdir()


def _is_own(folder: str) -> bool:
    """Whether it is a directory, no link, that only this user can change or enter."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and status.st_mode & 0o077 == 0
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, with a PYTHONPATH that means the same in another folder."""
    entries = environ.get("PYTHONPATH")
    if not entries:
        return dict(environ)
    absolute = os.pathsep.join(
        os.path.abspath(entry) for entry in entries.split(os.pathsep) if entry
    )
    return {**environ, "PYTHONPATH": absolute}
