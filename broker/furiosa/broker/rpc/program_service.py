"""Programs and queues on leased devices: check the lease, hand the bytes to its workers unread."""

import fcntl
import os
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from furiosa.broker.lease_book import LeaseBook
from furiosa.broker.rpc.methods import Call, ClientStream, Method, Unary
from furiosa.broker.sessions import Session
from furiosa.broker.tenancy import Tenancy
from furiosa.broker.workers.pool import WorkerPool
from furiosa.common.errors import BadArgument, LimitExceeded
from furiosa.common.names import DeviceFile
from furiosa.common.wire import program_to_wire
from furiosa.proto.broker.v1 import handoff_pb2
from furiosa.proto.broker.v1 import programs_pb2 as pb
from furiosa.queuepair.layout import Geometry

MAX_CHUNK_BYTES = 1024 * 1024


class ProgramService:
    """`max_program_bytes` bounds an ENF, `max_arena_bytes` the tensor memory of one queue."""

    def __init__(
        self,
        leases: LeaseBook,
        pool: WorkerPool,
        tenancy: Tenancy,
        *,
        max_program_bytes: int,
        max_arena_bytes: int,
    ) -> None:
        self._leases = leases
        self._pool = pool
        self._tenancy = tenancy
        self._max_program_bytes = max_program_bytes
        self._max_arena_bytes = max_arena_bytes
        self._uploading: set[str] = set()  # leases

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Programs/Load": ClientStream(pb.LoadProgramRequest, self.load),
            "Programs/Unload": Unary(pb.UnloadProgramRequest, self.unload),
            "Programs/Describe": Unary(pb.DescribeProgramRequest, self.describe),
        }

    @property
    def handoff_methods(self) -> Mapping[str, Method]:
        """Those that need descriptors."""
        return {
            "Session/LoadProgram": Unary(
                handoff_pb2.LoadProgramDescriptorRequest, self.load_descriptor, takes=1
            ),
            "Session/OpenQueue": Unary(handoff_pb2.OpenQueueRequest, self.open_queue),
            "Session/CloseQueue": Unary(handoff_pb2.CloseQueueRequest, self.close_queue),
        }

    async def load(
        self, requests: AsyncIterator[pb.LoadProgramRequest], call: Call
    ) -> pb.LoadProgramResponse:
        session = call.need_session()
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise BadArgument("the first message", "not a header", "LoadProgramRequest.header")
        header = first.header
        lease = self._leases.lease_of(session, header.lease_id)
        self._check_size(session, header.enf_bytes)
        if lease.id in self._uploading:  # each may hold max_program_bytes of our memory
            raise LimitExceeded("uploads of a lease at once", 2, 1)
        self._uploading.add(lease.id)
        try:
            with os.fdopen(os.memfd_create("enf", os.MFD_CLOEXEC), "wb") as memory:
                await _receive(requests, header.enf_bytes, memory)
                return await self._load(call, lease.id, memory.fileno(), header.traced)
        finally:
            self._uploading.discard(lease.id)

    async def load_descriptor(
        self, request: handoff_pb2.LoadProgramDescriptorRequest, call: Call
    ) -> pb.LoadProgramResponse:
        if len(call.received) != 1:
            found = f"{len(call.received)} descriptors"
            raise BadArgument(call.method, found, "one descriptor, of a memfd with the ENF")
        try:
            # before anything else: the file system of a stranger need not answer to an fstat
            fcntl.fcntl(call.received[0], fcntl.F_GET_SEALS)
        except OSError:
            raise BadArgument(call.method, "a descriptor of something else", "a memfd") from None
        self._check_size(call.need_session(), os.fstat(call.received[0]).st_size)
        return await self._load(call, request.lease_id, call.received[0], request.traced)

    async def _load(
        self, call: Call, lease_id: str, memory: int, traced: bool
    ) -> pb.LoadProgramResponse:
        lease = self._leases.lease_of(call.need_session(), lease_id)
        program = await self._pool.load(lease.id, lease.files, memory, traced=traced)
        return pb.LoadProgramResponse(program=program_to_wire(program))

    def _check_size(self, session: Session, size: int) -> None:
        own = self._tenancy.policy(session).max_program_bytes
        limit = self._max_program_bytes if own is None else min(own, self._max_program_bytes)
        if size > limit:
            raise LimitExceeded("program in bytes", size, limit)

    async def unload(
        self, request: pb.UnloadProgramRequest, call: Call
    ) -> pb.UnloadProgramResponse:
        self._leases.lease_of(call.need_session(), request.lease_id)
        await self._pool.unload(request.lease_id, request.program_id)
        return pb.UnloadProgramResponse()

    async def describe(
        self, request: pb.DescribeProgramRequest, call: Call
    ) -> pb.DescribeProgramResponse:
        self._leases.lease_of(call.need_session(), request.lease_id)
        program = self._pool.describe(request.lease_id, request.program_id)
        return pb.DescribeProgramResponse(program=program_to_wire(program))

    def program_files(self, lease_id: str, program_id: int) -> tuple[DeviceFile, ...]:
        """Where a program is loaded. Raises: UnknownProgram."""
        return self._pool.program_files(lease_id, program_id)

    async def open_queue(
        self, request: handoff_pb2.OpenQueueRequest | handoff_pb2.OpenQueueForRequest, call: Call
    ) -> handoff_pb2.OpenQueueResponse:
        lease = self._leases.lease_of(call.need_session(), request.lease_id)
        file = DeviceFile.parse(request.device_file)
        if file not in lease.files:
            expected = " or ".join(map(str, lease.files))
            raise BadArgument("device_file", str(file), f"a file of lease {lease.id}: {expected}")
        if request.arena_bytes > self._max_arena_bytes:
            raise LimitExceeded("arena in bytes", request.arena_bytes, self._max_arena_bytes)
        try:
            geometry = Geometry(request.depth, request.arena_bytes)
        except ValueError as exc:
            raise BadArgument("queue geometry", str(exc), "docs/wire.md") from None
        queue_id, descriptors = await self._pool.open_queue(lease.id, file, geometry)
        call.attached += [descriptors.memory, descriptors.submissions, descriptors.completions]
        return handoff_pb2.OpenQueueResponse(
            queue_id=queue_id, depth=geometry.depth, arena_bytes=geometry.arena_bytes
        )

    async def close_queue(
        self, request: handoff_pb2.CloseQueueRequest, call: Call
    ) -> handoff_pb2.CloseQueueResponse:
        self._leases.lease_of(call.need_session(), request.lease_id)
        await self._pool.close_queue(request.lease_id, request.queue_id)
        return handoff_pb2.CloseQueueResponse()

    async def close_opened_queue(self, lease_id: str, queue_id: int) -> None:
        """For one who opened it himself; no error when it is gone already."""
        await self._pool.close_queue(lease_id, queue_id)


async def _receive(
    requests: AsyncIterator[pb.LoadProgramRequest], expected: int, memory: BinaryIO
) -> None:
    """Write the chunks that follow a header. Raises: BadArgument, LimitExceeded."""
    size = 0
    async for request in requests:
        if len(request.chunk) > MAX_CHUNK_BYTES:
            raise LimitExceeded("chunk in bytes", len(request.chunk), MAX_CHUNK_BYTES)
        size += len(request.chunk)
        if size > expected:
            raise BadArgument("chunk", f"past {expected} bytes", "header.enf_bytes")
        memory.write(request.chunk)
    if size != expected:
        raise BadArgument("chunk", f"{size} bytes in all", f"{expected} bytes")
    memory.flush()
