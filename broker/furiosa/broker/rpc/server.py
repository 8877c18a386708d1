"""A gRPC listener: every method of the API under one guard, health and reflection beside it.

On TCP every call is served as a stream of requests, which looks the same on the wire: so its caller is
known, and counted, before any of its request is read, and a request that does not come ends the call.
"""

import asyncio
import contextlib
import gc
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from furiosa.broker.log import event
from furiosa.broker.rpc.admission import Admission
from furiosa.broker.rpc.credentials import Listener, server_credentials
from furiosa.broker.rpc.gate import Caller, Gate, Known, LocalGate, Unproven
from furiosa.broker.rpc.guard import failure_of
from furiosa.broker.rpc.limits import LIMITS, GrpcLimits
from furiosa.broker.rpc.methods import Call, ClientStream, Method, Prompt, ServerStream, Unary
from furiosa.broker.rpc.remote import RemoteSessions, peer_of
from furiosa.common.errors import BadArgument
from furiosa.common.failures import failed_to_trailers
from furiosa.common.keys import TlsKeys
from furiosa.common.status import Failed, Status
from furiosa.proto.broker.v1 import handoff_pb2

log = logging.getLogger(__name__)

PACKAGE: Final = "furiosa.proto.broker.v1"
WITHDRAW_KEY: Final = "furiosa-withdraw"  # metadata; see `_withdrawable`
CALL_KEY: Final = "furiosa-call"  # metadata; see `_number`
ABORT_SECONDS: Final = 5.0  # for a client that does not even take a status
REFUSALS_LOGGED_EVERY: Final = 1.0  # seconds; a stranger must not fill the log

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_CANCELLED: Final = Failed(Status.ABORTED, "cancelled", "", {})


class _Ended(Exception):
    """The broker ends a stream that has no end of its own; the text says why."""


class GrpcServer:
    """One listener: by default for callers on this machine, else for those whom `gate` lets in.

    `remote` serves the sessions of clients on other machines. All listeners share one `admission`.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        sessions: Known,
        admission: Admission | None = None,
        limits: GrpcLimits = LIMITS,
        *,
        gate: Gate | None = None,
        remote: RemoteSessions | None = None,
    ) -> None:
        self._gate = gate = gate or LocalGate(sessions)
        # who may open the Unix socket is known, and a request that gRPC reads itself costs less
        self._reads = not isinstance(gate, LocalGate)
        self._admission = admission or Admission()
        self._limits = limits
        self._remote = remote
        self._refusals = _Refusals()
        self._server = grpc.aio.server(
            # 40 us a call, which is too much for one that lets everybody in
            interceptors=() if gate.admits_all else (_Doorkeeper(gate, self._refusals),),
            options=limits.options,
            maximum_concurrent_rpcs=limits.calls,
        )
        self._health = health.aio.HealthServicer()
        services: dict[str, dict[str, Any]] = {}
        for name, method in methods.items():
            service, _, rpc = name.partition("/")
            services.setdefault(f"{PACKAGE}.{service}", {})[rpc] = self._handler(name, method)
        if remote is not None:
            attach = grpc.stream_stream_rpc_method_handler(
                self._attach(remote), handoff_pb2.Hello.FromString, _encode
            )
            services[f"{PACKAGE}.Sessions"] = {"Attach": attach}
        for service, handlers in services.items():
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._services = (*services, "")

    async def start(self, path: Path, mode: int) -> None:
        """Listen on a Unix socket. Raises: OSError when it cannot be made."""
        path.unlink(missing_ok=True)  # left by a killed broker; the lock file says it is not in use
        before = os.umask(0o777 & ~mode)  # of the whole process: nothing may be awaited
        try:
            with _no_port(f"cannot listen on {path}"):
                self._server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(before)
        await self._serve()

    async def listen(self, listener: Listener, keys: Callable[[], TlsKeys] | None) -> str:
        """Listen on TCP; `host:port` with the port it got. `keys` are asked for at each connection.

        Raises: OSError.
        """
        address = listener.at(listener.port)
        with _no_port(f"cannot listen on {address}"):
            if listener.tls:
                assert keys is not None
                credentials = server_credentials(keys, listener.way)
                port = self._server.add_secure_port(address, credentials)
            else:
                port = self._server.add_insecure_port(address)
        await self._serve()
        bound = listener.at(port)
        event(log, "broker.listening", address=bound, proof=listener.way.value, tls=listener.tls)
        return bound

    async def stop(self, grace: float) -> None:
        """Once, as the last that is asked of it. Calls underway have `grace` seconds to end."""
        await self._health.enter_graceful_shutdown()
        if self._remote is not None:
            self._remote.stop()  # sessions do not end by themselves
        await self._server.stop(grace)
        # it refers to itself, by its handlers and by calls that were aborted; were it still there when
        # the process ends, TLS in gRPC would wait two seconds for it
        del self._server
        gc.collect()

    async def _serve(self) -> None:
        await self._server.start()
        for service in self._services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def _handler(self, name: str, method: Method) -> Any:
        decode = method.request.FromString
        match method:
            case Unary() | Prompt():
                unary = self._unary(name, method.handler)
                if self._reads:
                    return grpc.stream_unary_rpc_method_handler(unary, decode, _encode)
                return grpc.unary_unary_rpc_method_handler(unary, decode, _encode)
            case ServerStream():
                stream = self._stream(name, method.handler)
                if self._reads:
                    return grpc.stream_stream_rpc_method_handler(stream, decode, _encode)
                return grpc.unary_stream_rpc_method_handler(stream, decode, _encode)
            case ClientStream():
                upload = self._upload(name, method.handler)
                return grpc.stream_unary_rpc_method_handler(upload, decode, _encode)

    def _unary(self, name: str, handler: Callable[[Any, Call], Any]) -> Any:
        async def body(given: Any, context: Any, caller: Caller) -> Any:
            with self._admission.call(name, caller.key):
                if not self._reads:
                    return await _delivered(handler, given, Call(name, caller.session))
                request = await self._request(name, context)
                call = Call(name, caller.session, id=_number(context))
                if _has(context, WITHDRAW_KEY):
                    return await _withdrawable(_delivered(handler, request, call), context)
                return await _delivered(handler, request, call)

        return self._guarded(name, body)

    def _stream(self, name: str, handler: Callable[[Any, Call], AsyncIterator[Any]]) -> Any:
        async def body(given: Any, context: Any, caller: Caller) -> None:
            with self._admission.call(name, caller.key):
                request = await self._request(name, context) if self._reads else given
                async for response in handler(request, Call(name, caller.session)):
                    await context.write(response)

        return self._guarded(name, body)

    def _upload(
        self, name: str, handler: Callable[[AsyncIterator[Any], Call], Awaitable[Any]]
    ) -> Any:
        async def body(_: Any, context: Any, caller: Caller) -> Any:
            with self._admission.call(name, caller.key):
                return await handler(self._requests(name, context), Call(name, caller.session))

        return self._guarded(name, body)

    def _attach(self, remote: RemoteSessions) -> Any:
        name = "Sessions/Attach"

        async def body(_: Any, context: Any, caller: Caller) -> None:
            hello = await self._request(name, context)
            cause = await remote.attach(hello, context, caller, lambda: self._gate.caller(context))
            raise _Ended(cause)

        return self._guarded(name, body)

    def _guarded(self, name: str, body: Callable[[Any, Any, Caller], Awaitable[Any]]) -> Any:
        """`body` for who is known; every error of it becomes the call's status."""

        async def guarded(given: Any, context: Any) -> Any:
            """`given` is the request, or what reads it where we do that ourselves."""
            try:
                return await body(given, context, self._gate.caller(context))
            except Unproven as exc:
                self._refusals.log(peer_of(context), str(exc))
                failed = _unproven(exc)
            except asyncio.CancelledError:
                # let out, it would leave a client that is still there waiting for its deadline
                failed = _CANCELLED
            except _Ended as exc:
                failed = Failed(Status.ABORTED, str(exc), "", {})
            except Exception as exc:  # the boundary: every error becomes a status
                failed = failure_of(name, exc)
            await _abort(context, failed)

        return guarded

    async def _request(self, name: str, context: Any) -> Any:
        """The next message of a call. Raises: BadArgument when there is none, or none in time."""
        request = await self._read("the request", name, context)
        if request is grpc.aio.EOF:
            raise BadArgument("the request", "absent", name)
        return request

    async def _requests(self, name: str, context: Any) -> AsyncIterator[Any]:
        what = "the next part of the request"
        while (request := await self._read(what, name, context)) is not grpc.aio.EOF:
            yield request

    async def _read(self, what: str, name: str, context: Any) -> Any:
        """Raises: BadArgument when it does not come in time."""
        seconds = self._limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await context.read()
        except TimeoutError:
            raise BadArgument(what, f"not here after {seconds:g} s", name) from None


class _Doorkeeper(grpc.aio.ServerInterceptor):
    """Turns away who proves nothing, from health, reflection and methods that do not exist, too."""

    def __init__(self, gate: Gate, refusals: "_Refusals") -> None:
        self._gate = gate
        self._refusals = refusals

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        try:
            self._gate.admit(details.invocation_metadata or ())
        except Unproven as exc:
            failed, cause = _unproven(exc), str(exc)

            async def refuse(_: Any, context: Any) -> None:
                self._refusals.log(peer_of(context), cause)
                await _abort(context, failed)

            return grpc.stream_stream_rpc_method_handler(refuse)
        return await continuation(details)


class _Refusals:
    """Of callers who proved nothing: one line a second at most."""

    def __init__(self) -> None:
        self._count = 0
        self._logged_at = -REFUSALS_LOGGED_EVERY

    def log(self, peer: str, cause: str) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._logged_at >= REFUSALS_LOGGED_EVERY:
            event(log, "remote.refused", logging.WARNING, peer=peer, cause=cause, count=self._count)
            self._count = 0
            self._logged_at = now


async def _delivered(handler: Callable[[Any, Call], Any], request: Any, call: Call) -> Any:
    answer = handler(request, call)
    if isinstance(answer, Message):
        return answer
    try:
        return await answer
    except asyncio.CancelledError:
        if call.undo is not None:  # it may have come in the same moment
            call.undo()
        raise


async def _withdrawable(work: Any, context: Any) -> Any:
    """The result, unless the caller closes its side of the stream before there is one.

    A cancelled gRPC call loses an answer that is on its way, and with it what was granted. A client that
    sends WITHDRAW_KEY withdraws by half-closing instead, and then learns which of the two came first.
    """
    working = asyncio.ensure_future(work)
    closing = asyncio.ensure_future(context.read())
    try:
        await asyncio.wait((working, closing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
        return await working
    finally:
        working.cancel()
        closing.cancel()


@contextlib.contextmanager
def _no_port(failure: str) -> Iterator[None]:
    """gRPC says it with a RuntimeError."""
    try:
        yield
    except RuntimeError as exc:
        raise OSError(f"{failure}: {exc}") from None


def _has(context: Any, key: str) -> bool:
    return any(name == key for name, _ in context.invocation_metadata() or ())


def _number(context: Any) -> int:
    """By which the caller wants notices to speak of the call; 0: none."""
    for name, value in context.invocation_metadata() or ():
        if name == CALL_KEY and re.fullmatch(r"\d{1,18}", value, re.ASCII):
            return int(value)
    return 0


def _encode(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _unproven(exc: Unproven) -> Failed:
    return Failed(Status.UNAUTHENTICATED, str(exc), "NOT_AUTHENTICATED", {})


async def _abort(context: Any, failed: Failed) -> None:
    async with asyncio.timeout(ABORT_SECONDS):
        await context.abort(_CODES[failed.code], failed.message, failed_to_trailers(failed))
