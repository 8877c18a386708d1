"""Any exception of a handler to the one failure its caller sees."""

import logging
import secrets

from furiosa.broker.log import event
from furiosa.common.errors import FuriosaError, InternalError
from furiosa.common.status import Failed, to_failed

log = logging.getLogger(__name__)


def failure_of(method: str, exc: BaseException) -> Failed:
    """What the caller may know. A defect's text stays in the log, under the reference he is given."""
    if isinstance(exc, FuriosaError):
        return to_failed(exc)
    reference = secrets.token_hex(4)
    event(log, "call.defect", logging.ERROR, method=method, reference=reference)
    log.error("call.defect reference=%s", reference, exc_info=exc)
    return to_failed(InternalError(reference))
