"""Numbers that callers pass, checked."""

import math
from typing import Final, Literal

from furiosa.runtime._core.link import OnBrokerRestart

DEFAULT_QUEUE_SIZE: Final = 64
MAX_QUEUE_SIZE: Final = 1 << 16

RestartPolicy = Literal["resume", "raise"]


def checked_queue_size(name: str, value: int | None) -> int:
    """How many inferences a queue holds. Raises: TypeError, ValueError."""
    if value is None:
        return DEFAULT_QUEUE_SIZE
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, found {type(value).__name__}")
    if not 1 <= value <= MAX_QUEUE_SIZE:
        raise ValueError(f"{name}: expected 1 to {MAX_QUEUE_SIZE}, found {value}")
    return value


def checked_seconds(name: str, value: float | None) -> float | None:
    """A time to wait; infinity is one. Raises: TypeError, ValueError."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number of seconds, found {type(value).__name__}")
    if math.isnan(value) or value < 0:
        raise ValueError(
            f"{name}: expected a number of seconds that is not negative, found {value}"
        )
    return value


def checked_policy(name: str, value: RestartPolicy) -> OnBrokerRestart:
    """Raises: TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, found {type(value).__name__}")
    try:
        return OnBrokerRestart(value)
    except ValueError:
        expected = " or ".join(repr(policy.value) for policy in OnBrokerRestart)
        raise ValueError(f"{name}: expected {expected}, found {value!r}") from None
