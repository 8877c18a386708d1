"""Messages of the control sockets: broker and zygote, broker and worker.

Each is a frozen value; on the socket it is one JSON object in the framing of `common.channel`, with the
class's name as "kind". `parse` accepts exactly what `encode` writes: the kinds expected from that peer,
all fields, right types, bounded sizes. Whatever else comes is `BadMessage`, and its sender is not to be
believed any further.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from furiosa.common.errors import FuriosaError
from furiosa.common.status import Failed, from_failed, to_failed
from furiosa.common.tensor import DType, Quantization, TensorSpec

MAX_PAYLOAD: Final = 1024 * 1024
MAX_TEXT: Final = 16 * 1024
MAX_ITEMS: Final = 1024  # of any list
MAX_RANK: Final = 16
MAX_COUNT: Final = (1 << 63) - 1


class BadMessage(Exception):
    """The peer sent what its side of the protocol has no place for."""


# Broker to zygote


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker. With it travel its control socket, its counters page and its stderr."""

    key: int  # names the worker between broker and zygote, never reused
    name: str  # its device file
    cpus: tuple[int, ...]  # one for each PE
    cgroup: str  # folder of the control group it joins first of all; empty: none


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker whose pidfd the broker does not have; no error when it has ended already."""

    key: int


# Zygote to broker


@dataclass(frozen=True, slots=True)
class ZygoteReady:
    """Everything is imported."""


@dataclass(frozen=True, slots=True)
class Spawned:
    key: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    key: int
    cause: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker was reaped. `code` is an exit status, or 256 and the signal that killed it."""

    key: int
    code: int


# Broker to worker; each is answered once, under its `request`


@dataclass(frozen=True, slots=True)
class Load:
    """With it travels the memfd that holds the ENF."""

    request: int
    program: int
    traced: bool  # its runs measure their steps, in a further output


@dataclass(frozen=True, slots=True)
class Unload:
    request: int
    program: int


@dataclass(frozen=True, slots=True)
class Attach:
    """With it travel the three descriptors of a queue pair."""

    request: int
    queue: int
    depth: int
    arena_bytes: int


@dataclass(frozen=True, slots=True)
class Detach:
    request: int
    queue: int


@dataclass(frozen=True, slots=True)
class Inject:
    """Faults of a virtual card, from the next run on; each replaces the one before as a whole."""

    request: int
    hang: int  # 1: the next run never ends
    failures: int  # as many runs fail because their inputs do not reach the card
    every: int  # one run in so many, 1 or more
    delay_ns: int  # by which transfers take longer


# Worker to broker


@dataclass(frozen=True, slots=True)
class Started:
    """The first one, with the worker's pidfd.

    It comes this way so that a broker without a free descriptor loses this worker and not the zygote.
    """


@dataclass(frozen=True, slots=True)
class Ready:
    """Confined, placed, and waiting for requests."""

    lacks: tuple[str, ...]  # what of the confinement could not be had here, and why


@dataclass(frozen=True, slots=True)
class Loaded:
    request: int
    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    enf_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    request: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The request failed with an error of `common.errors`; the worker goes on."""

    request: int
    reason: str
    text: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, request: int, error: FuriosaError) -> "Refused":
        failed = to_failed(error)
        fields = {name: value[:MAX_TEXT] for name, value in failed.fields.items()}
        return cls(request, failed.reason, failed.message[:MAX_TEXT], fields)

    @property
    def error(self) -> FuriosaError:
        return from_failed(Failed(0, self.text, self.reason, self.fields))


@dataclass(frozen=True, slots=True)
class QueueBroken:
    """Unasked: the client broke a queue's invariants; the worker has let go of it."""

    queue: int
    cause: str


Message = (
    Spawn
    | Kill
    | ZygoteReady
    | Spawned
    | SpawnFailed
    | Exited
    | Load
    | Unload
    | Attach
    | Detach
    | Inject
    | Started
    | Ready
    | Loaded
    | Done
    | Refused
    | QueueBroken
)

TO_ZYGOTE: Final = (Spawn, Kill)
FROM_ZYGOTE: Final = (ZygoteReady, Spawned, SpawnFailed, Exited)
TO_WORKER: Final = (Load, Unload, Attach, Detach, Inject)
FROM_WORKER: Final = (Started, Ready, Loaded, Done, Refused, QueueBroken)
DESCRIPTORS: Final = {Spawn: 3, Started: 1, Load: 1, Attach: 3}  # the others carry none


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise BadMessage(f"{value!r:.40} is not an integer within 0-{MAX_COUNT}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadMessage(f"{value!r:.40} is not a text of up to {MAX_TEXT} characters")
    return value


def _items(value: object, limit: int = MAX_ITEMS) -> list[object]:
    if not isinstance(value, list) or len(value) > limit:
        raise BadMessage(f"{value!r:.40} is not a list of up to {limit} items")
    return value


def _record(value: object, keys: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict) or tuple(value) != keys:
        raise BadMessage(f"{value!r:.40} is not an object with {', '.join(keys)}")
    return value


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise BadMessage(f"{value!r:.40} is not an object of up to {MAX_ITEMS} texts")
    return {_text(key): _text(item) for key, item in value.items()}


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise BadMessage(f"{value!r:.40} is neither true nor false")
    return value


def _list_of_texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, _items(value)))


def _integers(value: object) -> tuple[int, ...]:
    return tuple(map(_integer, _items(value)))


def _quantization(value: object) -> Quantization | None:
    if value is None:
        return None
    record = _record(value, ("scale", "zero_point"))
    scale, zero_point = record["scale"], record["zero_point"]
    if type(scale) is not float or not math.isfinite(scale):
        raise BadMessage(f"{scale!r:.40} is not a scale")
    if type(zero_point) is not int or abs(zero_point) >= 1 << 31:
        raise BadMessage(f"{zero_point!r:.40} is not a zero point")
    return Quantization(scale, zero_point)


def _tensor(value: object) -> TensorSpec:
    record = _record(value, ("name", "dtype", "shape", "quantization", "axes", "extent"))
    try:
        dtype = DType(record["dtype"])
    except ValueError as error:
        raise BadMessage(str(error)) from None
    shape = tuple(map(_integer, _items(record["shape"], MAX_RANK)))
    spec = TensorSpec(
        _text(record["name"]),
        dtype,
        shape,
        _quantization(record["quantization"]),
        _text(record["axes"]),
        tuple(map(_integer, _items(record["extent"], MAX_RANK))),
    )
    _integer(spec.nbytes)
    return spec


def _tensors(value: object) -> tuple[TensorSpec, ...]:
    return tuple(map(_tensor, _items(value)))


_FIELDS: Final[Mapping[object, Callable[[object], Any]]] = {
    int: _integer,
    bool: _flag,
    str: _text,
    Mapping[str, str]: _texts,
    tuple[str, ...]: _list_of_texts,
    tuple[int, ...]: _integers,
    tuple[TensorSpec, ...]: _tensors,
}
_READERS: Final = {
    cls: {name: _FIELDS[hint] for name, hint in get_type_hints(cls).items()}
    for cls in (*TO_ZYGOTE, *FROM_ZYGOTE, *TO_WORKER, *FROM_WORKER)
}


def _plain(value: object) -> object:
    if isinstance(value, DType):
        return value.value
    raise TypeError(f"{type(value).__name__} has no place in a message")


def encode(message: Message) -> bytes:
    """The payload of one channel message."""
    content = {"kind": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(content, default=_plain).encode()


def parse(payload: bytes, kinds: Sequence[type[Message]], descriptors: int) -> Message:
    """The message in `payload`, one of `kinds`, that came with so many descriptors.

    Raises: BadMessage.
    """
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadMessage("not a JSON object")
    name = content.pop("kind", None)
    cls = next((kind for kind in kinds if kind.__name__ == name), None)
    if cls is None:
        raise BadMessage(f"kind {name!r:.40} is not expected here")
    if descriptors != DESCRIPTORS.get(cls, 0):
        raise BadMessage(f"{cls.__name__} with {descriptors} descriptors")
    readers = _READERS[cls]
    if content.keys() != readers.keys():
        raise BadMessage(f"{cls.__name__} with fields {', '.join(content):.200}")
    return cls(**{field: read(content[field]) for field, read in readers.items()})
