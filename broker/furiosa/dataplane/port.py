"""One program of one session, on every device file that has it."""

import asyncio
from collections.abc import Callable, Sequence

from furiosa.common.errors import (
    BadArgument,
    FuriosaError,
    InternalError,
    LimitExceeded,
    WorkerDied,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseEndedNotice, ProgramView, WorkerDiedNotice
from furiosa.dataplane.broker_link import BrokerLink
from furiosa.dataplane.lane import DEPTH, Lane, Layout, Result
from furiosa.queuepair import BrokenQueue, ClientQueue, Geometry
from furiosa.queuepair.layout import MAX_ARENA_BYTES


class Port:
    """`open` it, then `run`. `on_closed` is called once, when it is of no further use."""

    def __init__(
        self,
        link: BrokerLink,
        token: str,
        lease_id: str,
        program_id: int,
        on_closed: Callable[[], None],
    ) -> None:
        self.lease_id = lease_id
        self._link = link
        self._token = token
        self._program_id = program_id
        self._on_closed = on_closed
        self._program: ProgramView | None = None
        self._lanes: list[Lane] = []
        self._lost: dict[DeviceFile, FuriosaError] = {}  # files whose worker died
        self._failure: FuriosaError | None = None
        # Free slots of all lanes in turn, so that lanes share the work. None: there is no more to come.
        self._free: asyncio.Queue[tuple[Lane, int] | None] = asyncio.Queue()

    async def open(self) -> None:
        """Raises: what the broker says; BrokerUnavailable; LimitExceeded."""
        try:
            loaded = await self._link.describe(self._token, self.lease_id, self._program_id)
            layout = Layout.of(loaded.program)
            for file in loaded.files:
                await self._open_lane(loaded.program, layout, file)
            if self._failure is not None:
                raise self._failure
        except BaseException as error:
            self.close(error if isinstance(error, FuriosaError) else InternalError("not opened"))
            raise
        self._program = loaded.program
        for slot in range(DEPTH):
            for lane in self._lanes:
                self._free.put_nowait((lane, slot))

    async def _open_lane(self, program: ProgramView, layout: Layout, file: DeviceFile) -> None:
        arena = DEPTH * layout.slot_bytes
        if arena > MAX_ARENA_BYTES:
            raise LimitExceeded("arena in bytes", arena, MAX_ARENA_BYTES)
        geometry = Geometry(DEPTH, arena)
        queue_id, descriptors = await self._link.open_queue(
            self._token, self.lease_id, file, geometry
        )
        try:
            queue = ClientQueue.attach(descriptors, geometry)
        except BaseException as error:
            self._link.close_queue(self.lease_id, queue_id)
            if isinstance(error, BrokenQueue):
                raise WorkerDied(str(file), str(error)) from None
            raise
        lane = Lane(program, layout, file, queue_id, queue, self._freed, self._lane_failed)
        self._lanes.append(lane)
        # A notice may have come while the answer was on its way to us.
        failure = self._failure or self._lost.get(file)
        if failure is not None:
            lane.fail(failure)

    @property
    def is_idle(self) -> bool:
        """Open, with nothing running and nobody waiting."""
        return self._program is not None and not any(lane.runs for lane in self._lanes)

    async def run(self, inputs: Sequence[memoryview]) -> Result:
        """Run once; waits its turn for a slot. One entry in `inputs` for each program input.

        Raises: BadArgument; WorkerDied; UnknownProgram; LeaseEnded; InternalError.
        """
        self._check(inputs)
        while True:
            free = await self._free.get()
            if free is None:
                self._free.put_nowait(None)  # for the next one
                assert self._failure is not None
                raise self._failure
            lane, slot = free
            if lane.alive:
                return await lane.start(slot, inputs)

    def _check(self, inputs: Sequence[memoryview]) -> None:
        assert self._program is not None, "it was never open"
        specs = self._program.inputs
        if len(inputs) != len(specs):
            raise BadArgument("inputs", f"{len(inputs)} tensors", f"{len(specs)}")
        for spec, data in zip(specs, inputs, strict=True):
            if len(data) != spec.nbytes:
                expected = f"{spec.nbytes} bytes, {spec.dtype.value} {list(spec.shape)}"
                raise BadArgument(f"input {spec.name!r}", f"{len(data)} bytes", expected)

    def notice(self, notice: LeaseEndedNotice | WorkerDiedNotice, error: FuriosaError) -> None:
        """What happened to the lease; `error` says it to who is waiting."""
        if isinstance(notice, LeaseEndedNotice):
            self.close(error)
            return
        self._lost[notice.device_file] = error
        for lane in tuple(self._lanes):
            if lane.file == notice.device_file:
                lane.fail(error)

    def close(self, error: FuriosaError) -> None:
        """Everybody who waits gets `error`. Twice is once."""
        if self._failure is not None:
            return
        self._failure = error
        for lane in tuple(self._lanes):
            lane.fail(error)
        self._free.put_nowait(None)
        self._on_closed()

    def _freed(self, lane: Lane, slot: int) -> None:
        self._free.put_nowait((lane, slot))

    def _lane_failed(self, lane: Lane, error: FuriosaError) -> None:
        self._lanes.remove(lane)
        self._link.close_queue(self.lease_id, lane.queue_id)
        if not self._lanes:
            self.close(error)
