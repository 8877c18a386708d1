"""A broker's TCP listener in this process, without a broker behind it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from furiosa.broker.rpc.admission import Admission
from furiosa.broker.rpc.credentials import Listener, TlsFiles
from furiosa.broker.rpc.gate import RemoteGate
from furiosa.broker.rpc.limits import GrpcLimits
from furiosa.broker.rpc.methods import Call, ClientStream, Method, ServerStream, Unary
from furiosa.broker.rpc.remote import RemoteOwner, RemoteSessions
from furiosa.broker.rpc.server import GrpcServer
from furiosa.broker.sessions import Session
from furiosa.common.views import Notice
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2, types_pb2

GRACE = 20.0  # seconds; calls that are not given time to end are cancelled before they can say why


@dataclass
class Backend:
    """Stands in for sessions, handlers and tokens. `calls` has the session of each call by method."""

    tokens: dict[str, str] = field(default_factory=dict)  # token: its name
    opened: dict[str, Session] = field(default_factory=dict)  # by bound token
    ended: list[tuple[Session, str]] = field(default_factory=list)
    calls: list[tuple[str, Session | None]] = field(default_factory=list)
    acquire: Callable[[Any, Call], Any] | None = None

    def open(
        self,
        owner: RemoteOwner,
        client: str,
        send_notice: Callable[[Notice], None],
        *,
        token: str,
    ) -> Session:
        session = Session(len(self.opened) + 1, owner, client, send_notice, token)
        self.opened[token] = session
        return session

    def close(self, session: Session, cause: str) -> None:
        self.opened.pop(session.token, None)
        self.ended.append((session, cause))

    def by_token(self, token: str) -> Session | None:
        return self.opened.get(token)

    @property
    def session(self) -> Session:
        (session,) = self.opened.values()
        return session

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Devices/List": Unary(devices_pb2.ListDevicesRequest, self._list),
            "Devices/Watch": ServerStream(devices_pb2.WatchDevicesRequest, self._watch),
            "Leases/Acquire": Unary(leases_pb2.AcquireRequest, self._acquire),
            "Leases/List": Unary(leases_pb2.ListLeasesRequest, self._leases),
            "Leases/Release": Unary(leases_pb2.ReleaseRequest, self._release),
            "Programs/Load": ClientStream(programs_pb2.LoadProgramRequest, self._load),
        }

    async def _list(self, request: Any, call: Call) -> devices_pb2.ListDevicesResponse:
        self.calls.append((call.method, call.session))
        return devices_pb2.ListDevicesResponse(revision=5)

    async def _watch(self, request: Any, call: Call) -> AsyncIterator[Any]:
        self.calls.append((call.method, call.session))
        for revision in (1, 2):
            yield devices_pb2.WatchDevicesResponse(revision=revision)

    async def _acquire(self, request: Any, call: Call) -> leases_pb2.AcquireResponse:
        self.calls.append((call.method, call.need_session()))
        assert self.acquire is not None
        await self.acquire(request, call)
        return leases_pb2.AcquireResponse(lease=types_pb2.Lease(id="a1"))

    async def _leases(self, request: Any, call: Call) -> leases_pb2.ListLeasesResponse:
        return leases_pb2.ListLeasesResponse()

    async def _release(self, request: Any, call: Call) -> leases_pb2.ReleaseResponse:
        self.calls.append((f"{call.method} {request.lease_id}", call.need_session()))
        return leases_pb2.ReleaseResponse()

    async def _load(self, requests: AsyncIterator[Any], call: Call) -> Any:
        content = b"".join([request.chunk async for request in requests])
        self.calls.append((f"{call.method} {len(content)}", call.need_session()))
        program = programs_pb2.Program(id=3, lease_id="a1", target="warboy", enf_bytes=len(content))
        return programs_pb2.LoadProgramResponse(program=program)


@dataclass
class Listening:
    backend: Backend
    remote: RemoteSessions
    address: str


@asynccontextmanager
async def listening(
    text: str = "127.0.0.1:0/token",
    tls: TlsFiles | None = None,
    limits: GrpcLimits | None = None,
    admission: Admission | None = None,
) -> AsyncIterator[Listening]:
    backend = Backend()

    def welcome(session: Session) -> handoff_pb2.Welcome:
        return handoff_pb2.Welcome(
            protocol_version=1,
            broker_version="0.0.0",
            data_target=":7",
            origin=types_pb2.DEVICE_ORIGIN_EMULATED,
        )

    remote = RemoteSessions(backend.open, backend.close, welcome)
    listener = Listener.parse(text, tls=tls is not None, client_ca=True)
    server = GrpcServer(
        backend.methods,
        backend,
        admission,
        limits=limits or GrpcLimits(),
        gate=RemoteGate(listener.way, backend, backend.tokens.get),
        remote=remote,
    )
    keys = None if tls is None else lambda: tls.current
    address = await server.listen(listener, keys)
    try:
        yield Listening(backend, remote, address)
    finally:
        await server.stop(GRACE)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    trailers = {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416  # no dict()
    return str(trailers.get("furiosa-reason", ""))
