"""Messages survive the socket; nothing else is taken for one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.workers import messages
from furiosa.broker.workers.messages import (
    DESCRIPTORS,
    FROM_WORKER,
    FROM_ZYGOTE,
    TO_WORKER,
    TO_ZYGOTE,
    BadMessage,
    Loaded,
    Message,
    Refused,
)
from furiosa.common.errors import InvalidProgram, LimitExceeded
from furiosa.common.tensor import DType, Quantization, TensorSpec

SPECS = (
    TensorSpec("x", DType.FLOAT32, (1, 3, 8, 8), axes="NHWC", extent=(1, 3, 8, 7)),
    TensorSpec("y", DType.INT8, (), Quantization(0.1, -128)),
)
EVERY_KIND: list[Message] = [
    messages.Spawn(1, "npu0pe0-1", (0, 3), "/sys/fs/cgroup/x"),
    messages.Kill(1),
    messages.ZygoteReady(),
    messages.Spawned(1, 4711),
    messages.SpawnFailed(1, "fork: out of memory"),
    messages.Exited(1, 265),
    messages.Load(1, 2, traced=True),
    messages.Unload(1, 2),
    messages.Attach(1, 2, 16, 4096),
    messages.Detach(1, 2),
    messages.Inject(1, 1, 3, 2, 5_000_000),
    messages.Started(),
    messages.Ready(("network namespace",)),
    Loaded(1, "warboy", SPECS, SPECS[:1], 1234),
    messages.Done(1),
    Refused(1, "INVALID_PROGRAM", "no", {"rule": "r", "detail": "d"}),
    messages.QueueBroken(3, "sequence"),
]
ALL = (*TO_ZYGOTE, *FROM_ZYGOTE, *TO_WORKER, *FROM_WORKER)


def test_every_kind_is_tried() -> None:
    assert [type(message) for message in EVERY_KIND] == list(ALL)


@pytest.mark.parametrize("message", EVERY_KIND, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_socket(message: Message) -> None:
    count = DESCRIPTORS.get(type(message), 0)
    assert messages.parse(messages.encode(message), [type(message)], count) == message


@pytest.mark.parametrize("message", EVERY_KIND, ids=lambda m: type(m).__name__)
def test_a_message_needs_its_descriptors_and_its_direction(message: Message) -> None:
    payload = messages.encode(message)
    count = DESCRIPTORS.get(type(message), 0)
    with pytest.raises(BadMessage, match=f"with {count + 1} descriptors"):
        messages.parse(payload, [type(message)], count + 1)
    with pytest.raises(BadMessage, match="is not expected here"):
        messages.parse(payload, [kind for kind in ALL if kind is not type(message)], count)


def loaded(**changes: Any) -> dict[str, Any]:
    content = json.loads(messages.encode(EVERY_KIND[12]))
    return {**content, **changes}


def tensor(**changes: Any) -> dict[str, Any]:
    spec = {"name": "x", "dtype": "int8", "shape": [1], "quantization": None}
    return loaded(inputs=[{**spec, **changes}])


HOSTILE: list[Any] = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"kind": ' + b"9" * 5000 + b"}",
    [],
    None,
    {},
    {"kind": None},
    {"kind": ["Loaded"]},
    {"kind": "Message"},
    loaded(extra=1),
    {"kind": "Loaded"},
    loaded(request=True),
    loaded(request=1.0),
    loaded(request="1"),
    loaded(request=-1),
    loaded(request=1 << 63),
    loaded(target=7),
    loaded(target="x" * 20_000),
    loaded(inputs={}),
    loaded(inputs=[1]),
    loaded(inputs=[None] * 2000),
    tensor(name=None),
    tensor(dtype="int4"),
    tensor(dtype=[]),
    tensor(shape=[-1]),
    tensor(shape=[1] * 17),
    tensor(shape=[1 << 40, 1 << 40]),
    tensor(more=1),
    tensor(quantization={}),
    tensor(quantization={"scale": "1", "zero_point": 0}),
    tensor(quantization={"scale": float("nan"), "zero_point": 0}),
    tensor(quantization={"scale": float("inf"), "zero_point": 0}),
    tensor(quantization={"scale": 1.0, "zero_point": 0.5}),
    tensor(quantization={"scale": 1.0, "zero_point": 1 << 40}),
    {"kind": "Refused", "request": 1, "reason": "X", "text": "x", "fields": []},
    {"kind": "Refused", "request": 1, "reason": "X", "text": "x", "fields": {"a": 1}},
    {"kind": "Load", "request": 1, "program": 1, "traced": 1},
    {"kind": "Ready", "pid": 1},
    {"kind": "Ready", "lacks": "everything"},
    {"kind": "Ready", "lacks": [1]},
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda c: repr(c)[:50])
def test_what_no_worker_sends_is_refused(content: Any) -> None:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BadMessage):
        messages.parse(payload, FROM_WORKER, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "int8"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "dtype", "shape", "quantization"]), inner)
    ),
    max_leaves=12,
)


@given(st.sampled_from(FROM_WORKER), st.data())
def test_random_fields_never_do_more_than_get_refused(
    kind: type[Message], data: st.DataObject
) -> None:
    fields = {name: data.draw(JSON) for name in kind.__dataclass_fields__}
    payload = json.dumps({"kind": kind.__name__, **fields}).encode()
    try:
        message = messages.parse(payload, FROM_WORKER, 0)
    except BadMessage:
        return
    assert messages.parse(messages.encode(message), FROM_WORKER, 0) == message


def test_a_refusal_carries_the_error_with_its_fields() -> None:
    error = Refused.of(7, LimitExceeded("enf_bytes", 10, 5)).error
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.value, error.maximum) == ("enf_bytes", 10, 5)


def test_a_refusal_always_fits_into_a_message() -> None:
    refusal = Refused.of(7, InvalidProgram("rule", "x" * 5_000_000))
    payload = messages.encode(refusal)
    assert len(payload) < messages.MAX_PAYLOAD
    assert messages.parse(payload, FROM_WORKER, 0) == refusal
