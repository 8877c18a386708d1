"""The gRPC server: every method of the API under one guard, health and reflection beside it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from furiosa.broker.rpc.guard import failure_of
from furiosa.broker.rpc.methods import Call, ClientStream, Method, ServerStream, Unary
from furiosa.broker.sessions import Session, Sessions
from furiosa.common.status import Failed
from furiosa.common.wire import failed_to_detail

PACKAGE: Final = "furiosa.proto.broker.v1"
TOKEN_PREFIX: Final = "furiosa-session/"

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on our address must fail, not share it
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.server.max_pending_requests", 20_000),  # the default drops calls at random past 1,000
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class GrpcServer:
    def __init__(self, methods: Mapping[str, Method], sessions: Sessions) -> None:
        self._methods = methods
        self._sessions = sessions
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        services: dict[str, dict[str, Any]] = {}
        for name, method in methods.items():
            service, _, rpc = name.partition("/")
            services.setdefault(f"{PACKAGE}.{service}", {})[rpc] = self._handler(name, method)
        for service, handlers in services.items():
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._services = (*services, "")

    async def start(self, path: Path, mode: int) -> None:
        """Raises: OSError when the socket cannot be made."""
        path.unlink(missing_ok=True)  # left by a killed broker; the lock file says it is not in use
        before = os.umask(0o777 & ~mode)
        try:
            if self._server.add_insecure_port(f"unix:{path}") == 0:
                raise OSError(f"cannot listen on {path}")
            await self._server.start()
        finally:
            os.umask(before)
        for service in self._services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    def _handler(self, name: str, method: Method) -> Any:
        decode, encode = method.request.FromString, _encode
        match method:
            case Unary():
                unary = self._unary(name, method.handler)
                return grpc.unary_unary_rpc_method_handler(unary, decode, encode)
            case ServerStream():
                stream = self._stream(name, method.handler)
                return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
            case ClientStream():
                unary = self._unary(name, method.handler)
                return grpc.stream_unary_rpc_method_handler(unary, decode, encode)

    def _session(self, context: Any) -> Session | None:
        for key, value in context.invocation_metadata() or ():
            if key == "user-agent" and value.startswith(TOKEN_PREFIX):
                token = value.removeprefix(TOKEN_PREFIX).partition(" ")[0]
                return self._sessions.by_token(token)
        return None

    def _unary(self, name: str, handler: Callable[[Any, Call], Awaitable[Any]]) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await handler(request, Call(name, self._session(context)))
            except asyncio.CancelledError:
                # let out, it would leave a client that is still there waiting for its deadline
                await _abort(context, Failed(grpc.StatusCode.ABORTED.value[0], "cancelled", "", {}))
            except Exception as exc:  # the boundary: every error becomes a status
                await _abort(context, failure_of(name, exc))

        return guarded

    def _stream(self, name: str, handler: Callable[[Any, Call], AsyncIterator[Any]]) -> Any:
        async def guarded(request: Any, context: Any) -> None:
            try:
                async for response in handler(request, Call(name, self._session(context))):
                    await context.write(response)
            except asyncio.CancelledError:
                await _abort(context, Failed(grpc.StatusCode.ABORTED.value[0], "cancelled", "", {}))
            except Exception as exc:  # the boundary: every error becomes a status
                await _abort(context, failure_of(name, exc))

        return guarded


def _encode(message: Any) -> bytes:
    return bytes(message.SerializeToString())


async def _abort(context: Any, failed: Failed) -> None:
    trailers = (
        ("furiosa-reason", failed.reason),
        ("furiosa-error-bin", failed_to_detail(failed).SerializeToString()),
    )
    await context.abort(_CODES[failed.code], failed.message, trailers)
