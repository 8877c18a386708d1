"""Service Inference: requests in, tensors to a port, answers out."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from furiosa.common.errors import BadArgument, FuriosaError, InternalError, NoSession
from furiosa.common.failures import failed_to_detail, failed_to_trailers
from furiosa.common.proof import Proving, proof_of, session_token_of
from furiosa.common.status import Failed, Status, to_failed
from furiosa.dataplane.ports import Ports
from furiosa.dataplane.requests import RunRequest, decode
from furiosa.proto.broker.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT: Final = (
    32  # requests of a stream; more are left unread, so that gRPC slows its sender
)
REQUEST_SECONDS: Final = 60.0  # for a unary request that has begun to come by TCP
ABORT_SECONDS: Final = 5.0  # for a client that does not even take a status
_NAME: Final = "furiosa.proto.broker.v1.Inference"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_STOPPED: Final = Failed(Status.ABORTED, "the call was cancelled", "", {})


class InferenceService:
    """`way` is what clients on TCP prove themselves by; None on the Unix socket."""

    def __init__(self, ports: Ports, way: Proving | None = None) -> None:
        self._ports = ports
        self._way = way

    def add_to(self, server: grpc.aio.Server) -> None:
        encode = pb.RunResponse.SerializeToString
        if self._way is None:
            run = grpc.unary_unary_rpc_method_handler(self.Run, decode, encode)
        else:
            run = grpc.stream_unary_rpc_method_handler(self.RunUnread, decode, encode)
        answer = pb.RunStreamResponse.SerializeToString
        stream = grpc.stream_stream_rpc_method_handler(self.RunStream, decode, answer)
        handlers = {"Run": run, "RunStream": stream}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_NAME, handlers),))

    async def Run(self, request: RunRequest, context: Any) -> Any:
        try:
            return await self._run(self._token(context, "Inference/Run"), request)
        except asyncio.CancelledError:
            # let out, it would leave a client that is still there waiting for its deadline
            await _abort(context, _STOPPED)
        except Exception as error:  # the boundary: every error becomes a status
            await _abort(context, _failure(error))

    async def RunUnread(self, _: AsyncIterator[RunRequest], context: Any) -> Any:
        """Run, for strangers: a request is read only once its sender is known to have a session."""
        try:
            token = self._token(context, "Inference/Run")
            await self._ports.admit(token)
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await context.read()
            if request is grpc.aio.EOF:
                raise BadArgument("the request", "absent", "Inference/Run")
            return await self._run(token, request)
        except TimeoutError:
            found = f"not here after {REQUEST_SECONDS:g} s"
            await _abort(context, to_failed(BadArgument("the request", found, "Inference/Run")))
        except asyncio.CancelledError:
            await _abort(context, _STOPPED)
        except Exception as error:  # the boundary: every error becomes a status
            await _abort(context, _failure(error))

    async def RunStream(self, _: AsyncIterator[RunRequest], context: Any) -> None:
        """Not a generator: it reads and writes by context."""
        try:
            token = self._token(context, "Inference/RunStream")
            if self._way is not None:
                await self._ports.admit(token)
            window = asyncio.Semaphore(MAX_IN_FLIGHT)
            writing = asyncio.Lock()
            async with asyncio.TaskGroup() as answers:
                while True:
                    await window.acquire()
                    request = await context.read()
                    if request is grpc.aio.EOF:
                        break
                    answers.create_task(self._answer(token, request, context, window, writing))
        except asyncio.CancelledError:
            await _abort(context, _STOPPED)
        except Exception as error:  # the boundary; a group when writing failed: the client left
            await _abort(
                context, _STOPPED if isinstance(error, ExceptionGroup) else _failure(error)
            )

    async def _answer(
        self,
        token: str,
        request: RunRequest,
        context: Any,
        window: asyncio.Semaphore,
        writing: asyncio.Lock,
    ) -> None:
        """One request of a stream. Its place in the window is free once its answer was taken."""
        try:
            answer = pb.RunStreamResponse(response=await self._run(token, request))
        except Exception as error:
            failed = _failure(error)
            detail = failed_to_detail(failed)
            answer = pb.RunStreamResponse(
                failure=pb.RunFailure(
                    id=request.id, code=failed.code, message=failed.message, detail=detail
                )
            )
        async with writing:
            await context.write(answer)
        window.release()

    async def _run(self, token: str, request: RunRequest) -> pb.RunResponse:
        port = await self._ports.get(token, request.lease_id, request.program_id)
        result = await port.run(request.inputs)
        return pb.RunResponse(outputs=result.outputs, id=request.id, device_time_ns=result.task_ns)

    def _token(self, context: Any, method: str) -> str:
        """What the broker knows the caller's session by. Raises: NoSession."""
        metadata = context.invocation_metadata() or ()
        token = session_token_of(metadata)
        if token is not None and self._way is not None:
            proof = proof_of(self._way, context.auth_context(), metadata)
            token = None if proof is None else proof.bind(token)
        if token is None:
            raise NoSession(method)
        return token


def _failure(error: Exception) -> Failed:
    """What the caller may know. A defect's text stays in the log, under the reference he is given."""
    if isinstance(error, FuriosaError):
        return to_failed(error)
    reference = secrets.token_hex(4)
    _log.error("internal error %s", reference, exc_info=error)
    return to_failed(InternalError(reference))


async def _abort(context: Any, failed: Failed) -> None:
    async with asyncio.timeout(ABORT_SECONDS):
        await context.abort(_CODES[failed.code], failed.message, failed_to_trailers(failed))
