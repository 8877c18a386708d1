"""Errors as they travel: in a frame of the handoff socket, and in the trailers of a gRPC call.

gRPC is not imported: its status code and details travel beside the trailers.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from furiosa.common.errors import FuriosaError
from furiosa.common.status import Failed, from_failed
from furiosa.proto.broker.v1 import handoff_pb2, types_pb2

_REASON: Final = "furiosa-reason"
_DETAIL: Final = "furiosa-error-bin"


def failed_to_wire(failed: Failed) -> handoff_pb2.Failure:
    return handoff_pb2.Failure(
        code=failed.code, message=failed.message, detail=failed_to_detail(failed)
    )


def error_from_wire(message: handoff_pb2.Failure) -> FuriosaError:
    detail = message.detail
    return from_failed(Failed(message.code, message.message, detail.reason, dict(detail.fields)))


def failed_to_detail(failed: Failed) -> types_pb2.ErrorDetail:
    return types_pb2.ErrorDetail(reason=failed.reason, fields=dict(failed.fields))


def failed_to_trailers(failed: Failed) -> tuple[tuple[str, str | bytes], ...]:
    return (
        (_REASON, failed.reason),
        (_DETAIL, failed_to_detail(failed).SerializeToString()),
    )


def failed_from_trailers(code: int, text: str, trailers: Mapping[str, Any]) -> Failed:
    """Without a reason where no broker gave one, or not a sound one: then it is gRPC's own error."""
    try:
        detail = types_pb2.ErrorDetail.FromString(trailers.get(_DETAIL, b""))
    except DecodeError:
        return Failed(code, text, "", {})
    return Failed(code, text, trailers.get(_REASON, ""), dict(detail.fields))
