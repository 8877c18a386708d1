"""Service Inference: requests in, tensors to a port, answers out."""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from furiosa.common.errors import FuriosaError, InternalError, NoSession
from furiosa.common.status import Failed, Status, to_failed
from furiosa.common.wire import failed_to_detail
from furiosa.dataplane.ports import Ports
from furiosa.proto.broker.v1 import inference_pb2 as pb
from furiosa.proto.broker.v1 import inference_pb2_grpc

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT: Final = (
    32  # requests of one stream; more are left unread, so that gRPC slows its sender
)
_TOKEN: Final = re.compile(r"furiosa-session/([0-9a-f]{64})(?: .*)?", re.ASCII)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_STOPPED: Final = Failed(Status.ABORTED, "the call was cancelled", "", {})


class InferenceService(inference_pb2_grpc.InferenceServicer):
    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def Run(self, request: pb.RunRequest, context: Any) -> Any:
        try:
            return await self._run(_token(context, "Inference/Run"), request)
        except asyncio.CancelledError:
            # let out, it would leave a client that is still there waiting for its deadline
            await _abort(context, _STOPPED)
        except Exception as error:  # the boundary: every error becomes a status
            await _abort(context, _failure(error))

    async def RunStream(  # type: ignore[override]  # not a generator: it reads and writes by context
        self, _: AsyncIterator[pb.RunRequest], context: Any
    ) -> None:
        try:
            token = _token(context, "Inference/RunStream")
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
        request: pb.RunRequest,
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

    async def _run(self, token: str, request: pb.RunRequest) -> pb.RunResponse:
        port = await self._ports.get(token, request.lease_id, request.program_id)
        result = await port.run(request.inputs)
        return pb.RunResponse(outputs=result.outputs, id=request.id, device_time_ns=result.task_ns)


def _token(context: Any, method: str) -> str:
    """Raises: NoSession."""
    for key, value in context.invocation_metadata() or ():
        if key == "user-agent" and (match := _TOKEN.fullmatch(value)):
            return match[1]
    raise NoSession(method)


def _failure(error: Exception) -> Failed:
    """What the caller may know. A defect's text stays in the log, under the reference he is given."""
    if isinstance(error, FuriosaError):
        return to_failed(error)
    reference = secrets.token_hex(4)
    _log.error("internal error %s", reference, exc_info=error)
    return to_failed(InternalError(reference))


async def _abort(context: Any, failed: Failed) -> None:
    trailers = (
        ("furiosa-reason", failed.reason),
        ("furiosa-error-bin", failed_to_detail(failed).SerializeToString()),
    )
    await context.abort(_CODES[failed.code], failed.message, trailers)
