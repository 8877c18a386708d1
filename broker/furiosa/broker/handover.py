"""What one broker process leaves to its successor: named descriptors, and a state that explains them.

All of it is packed into one socket, as messages that nobody has received yet: so there is one descriptor
to pass on, however many sessions there are. By re-exec it stays open in the same process and an
environment variable tells its number; from stop to start systemd's descriptor store keeps it. (The store
compares each new descriptor with all it has: 3,000 of them kept systemd itself busy for five seconds.)

A session is taken over whole or not at all, and what nobody takes over is closed, so that its client hears
of it and comes again.
"""

import array
import fcntl
import itertools
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from furiosa.broker.log import event
from furiosa.broker.saved import BadState, BrokerState, SavedSession
from furiosa.broker.systemd import Notifier

log = logging.getLogger(__name__)

VARIABLE: Final = "FURIOSA_BROKERD_HANDOVER"
STORED: Final = "handover"  # what it is called in systemd's store
STATE: Final = "state"  # and the memory of the state among the descriptors
MOST_BYTES: Final = 256 * 1024**2  # of a state; a session has a few hundred, and what it was sent
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
MOST_NAME_BYTES: Final = 64
DESCRIPTORS_PER_MESSAGE: Final = 253  # SCM_MAX_FD
BUFFER_BYTES: Final = 16 * 1024 * 1024  # for root; others get what net.core.wmem_max allows
SO_SNDBUFFORCE: Final = 32  # Python has no name for it
# Without a handler they would end the successor before it has set up its own.
HELD_SIGNALS: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
)


@dataclass(slots=True)
class Handover:
    """Owns its descriptors until they are taken."""

    descriptors: dict[str, int]
    state: bytes = field(repr=False)

    def take(self, name: str) -> int | None:
        """The descriptor of this name, close-on-exec and yours from now on; None: there is none."""
        return self.descriptors.pop(name, None)

    def usable(self, keep: Collection[str] = ()) -> BrokerState:
        """With the sessions whose descriptors are all here, for `take`; those of others are closed.

        `keep` names what belongs to no session, such as listeners, and stays in any case. A state that
        cannot be used is logged, and has no sessions.
        """
        whole: list[SavedSession] = []
        try:
            state = BrokerState.from_json(self.state) if self.state else BrokerState()
        except BadState as exc:
            event(log, "handover.ignored", logging.ERROR, cause=exc)
            state = BrokerState()
        for session in state.sessions:
            missing = [name for name in session.descriptors if name not in self.descriptors]
            if missing:
                lacks = ",".join(missing)
                event(
                    log, "handover.session_lost", session=session.id, pid=session.pid, lacks=lacks
                )
            else:
                whole.append(session)
        wanted = {name for session in whole for name in session.descriptors} | set(keep)
        for name in self.descriptors.keys() - wanted:
            os.close(self.descriptors.pop(name))
        return replace(state, sessions=tuple(whole))

    def close(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])


def collect(descriptors: Mapping[str, int], state: BrokerState) -> Handover:
    """The descriptors stay yours. Raises: ValueError for a bad name, or one that only `state` knows."""
    for name in descriptors:
        if not 0 < len(name.encode()) <= MOST_NAME_BYTES or "\0" in name or name == STATE:
            raise ValueError(
                f"descriptor name {name!r}: expected 1..{MOST_NAME_BYTES} bytes, not {STATE!r}"
            )
    for session in state.sessions:
        for name in session.descriptors:
            if name not in descriptors:
                raise ValueError(f"session {session.id} lacks its descriptor {name!r}")
    return Handover(dict(descriptors), state.to_json())


def exec_with(
    handover: Handover,
    path: str,
    arguments: list[str],
    environ: Mapping[str, str],
    signals: Collection[int] = (),
) -> NoReturn:
    """Become the program `path`, which keeps pid, children and these descriptors. For the main thread.

    Signals that arrive before the successor calls `release_signals` wait for it; so do `signals`, which
    came before. Raises: OSError; then everything is as it was.
    """
    with packed(handover) as parcel:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        # other threads, such as gRPC's, block nothing, and may take one until the kernel ends them
        taken, taking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        told = signal.set_wakeup_fd(taking, warn_on_full_buffer=False)
        try:
            for number in set(signals):
                signal.pthread_kill(threading.get_ident(), number)
            passed = (parcel.fileno(), taken)
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            variable = ":".join(map(str, (os.getpid(), *passed)))
            os.execve(path, arguments, {**environ, VARIABLE: variable})
        finally:
            signal.set_wakeup_fd(told)
            for descriptor in (taken, taking):
                os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """For the successor, once its handlers are set up; no effect otherwise."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)


def from_environment(environ: MutableMapping[str, str]) -> Handover | None:
    """What `exec_with` left, once: the variable is removed. None: nothing, or for another process."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+)", environ.pop(VARIABLE, ""), re.ASCII)
    if found is None or int(found[1]) != os.getpid():
        return None
    _raise_again(int(found[3]))
    return unpacked(int(found[2]))


def _raise_again(taken: int) -> None:
    """Signals that a thread took which ended before anybody acted on them; they wait, as those held do."""
    with open(taken, "rb", buffering=0) as pipe:
        for number in set(pipe.read() or b"") & HELD_SIGNALS:
            signal.pthread_kill(threading.get_ident(), number)


async def store(handover: Handover, notifier: Notifier) -> None:
    """Have systemd keep all of it; when this returns the process may end.

    The descriptors stay yours, but closing them is not seen by their peers any more, unless
    `from_store` or systemd, which lets go of them at a stop, closes them too.
    Raises: OSError, TimeoutError.
    """
    with packed(handover) as parcel:
        await notifier.store(STORED, parcel.fileno())
        await notifier.settled()


async def from_store(given: MutableMapping[str, int], notifier: Notifier) -> Handover:
    """What `store` left, and the listeners, from what `systemd.listen_fds` returned; takes all of that.

    systemd is told to let go of the parcel, or the next start would get it again.
    Raises: OSError, TimeoutError.
    """
    parcel = given.pop(STORED, None)
    left = Handover({}, b"") if parcel is None else unpacked(parcel)
    if parcel is not None:
        await notifier.forget(STORED)
    for name, descriptor in given.items():
        if (surplus := left.take(name)) is not None:
            os.close(surplus)
        left.descriptors[name] = descriptor
    return left


def packed(handover: Handover) -> socket.socket:
    """A socket to be passed to `unpacked`; closing it unread is the end of what only it holds.

    Raises: OSError, when there are too many descriptors for its buffer, some thousands for others than
    root.
    """
    parcel, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sender:
        try:
            sender.setblocking(False)
            try:
                sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
            except PermissionError:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            memory = _sealed(handover.state)
            try:
                for names, descriptors in _batches({STATE: memory, **handover.descriptors}):
                    rights = array.array("i", descriptors)
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                    sender.sendmsg(["\0".join(names).encode()], ancillary)
            finally:
                os.close(memory)
        except BaseException:
            parcel.close()
            raise
    return parcel


def unpacked(parcel: int) -> Handover:
    """Takes the descriptor. What cannot be read is logged, and leaves what could be."""
    left = Handover({}, b"")
    try:
        with socket.socket(fileno=parcel) as receiver:
            receiver.setblocking(False)
            for name, descriptor in _received(receiver):
                left.descriptors[name] = descriptor
        if (memory := left.take(STATE)) is not None:
            try:
                left.state = _read(memory)
            finally:
                os.close(memory)
    except (OSError, ValueError) as exc:
        event(log, "handover.ignored", logging.ERROR, cause=exc)
    return left


def _batches(descriptors: Mapping[str, int]) -> Iterator[tuple[list[str], list[int]]]:
    left = iter(descriptors.items())
    while batch := list(itertools.islice(left, DESCRIPTORS_PER_MESSAGE)):
        yield [name for name, _ in batch], [descriptor for _, descriptor in batch]


def _received(receiver: socket.socket) -> Iterator[tuple[str, int]]:
    """Descriptors close-on-exec. Raises: OSError, ValueError."""
    bytes_of_names = DESCRIPTORS_PER_MESSAGE * (MOST_NAME_BYTES + 1)
    room = socket.CMSG_SPACE(DESCRIPTORS_PER_MESSAGE * 4)
    while True:
        data, ancillary, _, _ = receiver.recvmsg(bytes_of_names, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        yield from zip(data.decode().split("\0"), descriptors, strict=True)


def _sealed(data: bytes) -> int:
    memory = os.memfd_create("furiosa-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(memory)
        raise
    return memory


def _read(memory: int) -> bytes:
    """From the start, whoever read it before. Raises: OSError, ValueError."""
    if fcntl.fcntl(memory, fcntl.F_GET_SEALS) != SEALS:
        raise ValueError("a state that is not sealed")
    size = os.fstat(memory).st_size
    if size > MOST_BYTES:
        raise ValueError(f"a state of {size} bytes, at most {MOST_BYTES}")
    return os.pread(memory, size, 0)
