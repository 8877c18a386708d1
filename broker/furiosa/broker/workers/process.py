"""One forked worker process as the broker sees it: from the order to fork it until it is gone."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

REPORT_SECONDS: Final = 1.0  # that the zygote may take to tell how a dead worker ended
SIGNALLED: Final = 256  # added to the number of the signal that ended a process


def cause_of(code: int) -> str:
    """For people, from the code in `messages.Exited`."""
    if code < SIGNALLED:
        return f"exited with status {code}"
    number = code - SIGNALLED
    with contextlib.suppress(ValueError):
        return f"killed by signal {number} ({signal.Signals(number).name})"
    return f"killed by signal {number}"


class Process:
    """`on_exit` is called once, with the cause, when the process is dead and reaped.

    Its pidfd, which it sends by itself, says that it is dead; the zygote, its parent, reaps it and tells
    how it ended. When the zygote is gone too, init reaps, and the pidfd alone has to do. `have_killed`
    is how to end it without a pidfd: have the zygote do it.
    """

    def __init__(
        self,
        on_spawned: Callable[[], None],
        on_exit: Callable[[str], None],
        have_killed: Callable[[], None],
    ) -> None:
        self._on_spawned = on_spawned
        self._on_exit = on_exit
        self._have_killed = have_killed
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = None
        self._killed = False
        self._dead = False
        self._orphaned = False
        self._finished = False
        self._timer: asyncio.TimerHandle | None = None
        self.pid: int | None = None

    @property
    def watched(self) -> bool:
        """Whether its pidfd has come."""
        return self._pidfd is not None

    def kill(self) -> None:
        """SIGKILL, now or as soon as there is something to kill."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        elif not self._killed and not self._finished:
            self._have_killed()
        self._killed = True

    def watch(self, pidfd: int) -> None:
        """Takes `pidfd`."""
        if self._finished or self._pidfd is not None:
            os.close(pidfd)
            return
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._died)
        if self._killed:
            self.kill()

    # What the spawner has to say

    def spawned(self, pid: int) -> None:
        self.pid = pid
        if not self._killed:
            self._on_spawned()

    def failed(self, cause: str) -> None:
        """It was never forked."""
        self._finish(cause)

    def exited(self, code: int) -> None:
        """The zygote reaped it."""
        self._finish(cause_of(code))

    def orphaned(self) -> None:
        """The zygote is gone, and the kernel kills what it forked.

        A process whose pidfd never arrived is not waited for: it either finds that its parent is gone,
        or its control socket closed before any request came.
        """
        self._orphaned = True
        if self._dead or self._pidfd is None:
            self._finish("its zygote died")

    def _died(self) -> None:
        assert self._pidfd is not None
        self._loop.remove_reader(self._pidfd)
        self._dead = True
        if self._orphaned:
            self._finish("its zygote died")
        else:
            self._timer = self._loop.call_later(REPORT_SECONDS, self._finish, "nobody saw how")

    def _finish(self, cause: str) -> None:
        if self._finished:
            return
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._on_exit(cause)
