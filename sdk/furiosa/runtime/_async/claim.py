"""How a runtime comes by its lease, and by the same one again after the broker has gone."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from furiosa.common import errors as broker
from furiosa.common.causes import REVOKED
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseView
from furiosa.runtime._async import io
from furiosa.runtime._async.tenure import Tenure
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._version import VERSION

CLIENT: Final = f"furiosa-runtime/{VERSION.version}"

RESUME_SECONDS: Final = 60.0  # for a broker to come back: as long as one keeps leases, by default
PAUSE_SECONDS: Final = (
    0.01,
    1.0,
)  # between attempts: the first one, doubled each time, and the most
# How long at least to queue for devices anew: workers of the lease before may still be being stopped.
AGAIN_SECONDS: Final = 5.0

# The broker is not there yet, or not any more.
_LATER: Final = (broker.BrokerUnavailable, broker.BrokerDraining, broker.RateLimited)


class Claim:
    """One call at a time may be in `take` or `retake`; others `nap`.

    What is called `check` raises when its caller needs the lease no longer. It is called before each
    wait and after each `stir`, by any task or thread.
    """

    def __init__(self, spec: DeviceSpec, wait: float | None, time_to_live: float | None) -> None:
        """`wait`: for so many seconds, when devices are held by others."""
        self._spec = spec
        self._wait = wait
        self._time_to_live = time_to_live
        self._asking: tuple[io.Connection, Callable[[], object]] | None = None
        self._naps: set[io.Signal] = set()
        self._lock = threading.Lock()  # of the naps

    async def take(self, check: Callable[[], object]) -> Tenure:
        """Raises: FuriosaError, leaving nothing held; what `check` raises."""
        return await self._ask(await io.connect(client=CLIENT), None, check)

    async def retake(self, former: Tenure, check: Callable[[], object]) -> Tenure:
        """The same lease if the broker has it yet, else one of the same devices.

        Raises: BrokerUnavailable, BrokerDraining when there was no broker for RESUME_SECONDS; LeaseEnded
        when it was revoked; what Acquire raises, such as DeviceBusy; what `check` raises.
        """
        deadline = time.monotonic() + RESUME_SECONDS
        pause, longest = PAUSE_SECONDS
        while True:
            try:
                connection = await former.connection.reopen(client=CLIENT)
                return await self._ask(connection, former.lease, check)
            except _LATER:
                check()
                if time.monotonic() >= deadline:
                    raise
            await self.nap(check, pause)
            pause = min(2 * pause, longest)

    async def nap(self, look: Callable[[], object], seconds: float | None = None) -> None:
        """Until `stir`, or so many seconds have passed; not at all if `look` finds something."""
        signal = io.Signal()
        with self._lock:
            self._naps.add(signal)
        try:
            if not look():
                await signal.wait(seconds)
        finally:
            with self._lock:
                self._naps.discard(signal)

    def stir(self) -> None:
        """Something has changed: all who wait look whether they still should."""
        with self._lock:
            signals = tuple(self._naps)
        for signal in signals:
            signal.set()
        asking = self._asking
        if asking is not None:
            connection, check = asking
            try:
                check()
            except FuriosaRuntimeError:
                io.hang_up(connection)

    async def _ask(
        self, connection: "io.Connection", former: LeaseView | None, check: Callable[[], object]
    ) -> Tenure:
        """Owns: `connection`, closed if this fails."""
        self._asking = connection, check
        try:
            check()
            lease = None if former is None else await _resumed(connection, former)
            if lease is None:
                spec, wait = self._wanted(former)
                lease = await connection.acquire(spec, wait, time_to_live=self._time_to_live)
            return Tenure(connection, lease)
        except broker.FuriosaError:
            await connection.close()
            check()  # then it was `stir` that ended the wait
            raise
        except BaseException:
            await connection.close()
            raise
        finally:
            self._asking = None

    def _wanted(self, former: LeaseView | None) -> tuple[DeviceSpec, float | None]:
        if former is None:
            return self._spec, self._wait
        spec = DeviceSpec.parse(",".join(map(str, former.device_files)))
        return spec, max(self._wait or 0.0, AGAIN_SECONDS)


async def _resumed(connection: "io.Connection", former: LeaseView) -> LeaseView | None:
    """None when the broker has it no longer. Raises: LeaseEnded when an administrator took it away."""
    try:
        with contextlib.suppress(broker.UnknownLease, broker.NotLeaseOwner):
            return await connection.resume(former.id)
    except broker.LeaseEnded as error:
        if error.cause.startswith(REVOKED):
            raise
    return None
