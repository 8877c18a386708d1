"""Random changes to ONNX models in their structure: fields, lists and numbers rather than bytes."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import ModelProto

_INTEGERS: Final = (-(1 << 63), -(1 << 31), -129, -2, -1, 0, 1, 2, 3, 7, 17, 255, 1 << 31, 1 << 40)
_FLOATS: Final = (0.0, -1.0, 0.5, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
_WORDS: Final = ("", "ai.onnx", "com.microsoft", "If", "value", "axis", "name", "SAME_UPPER")
_BITS: Final = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The model with one to three changes."""
    model = ModelProto.FromString(data)
    nodes = model.graph.node
    words = [word for node in nodes for word in (node.op_type, *node.input, *node.output)]
    for _ in range(rng.integers(1, 4)):
        _change(model, rng, [*words, *_WORDS])
    return model.SerializeToString()


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, held in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for item in (held,) if isinstance(held, Message) else held:
                yield from _messages(item)


def _change(model: Message, rng: np.random.Generator, words: Sequence[str]) -> None:
    target = _one(list(_messages(model)), rng)
    given = [field for field, _ in target.ListFields()]
    field = _one(given if given and rng.random() < 0.8 else list(target.DESCRIPTOR.fields), rng)
    held = getattr(target, field.name)
    if hasattr(held, "insert"):
        _change_list(held, field, rng, words)
    elif isinstance(held, Message):
        if rng.random() < 0.5:
            target.ClearField(field.name)
        else:
            held.SetInParent()
    else:
        setattr(target, field.name, _value(field, rng, words))


def _change_list(
    held: Any, field: FieldDescriptor, rng: np.random.Generator, words: Sequence[str]
) -> None:
    place = int(rng.integers(len(held))) if len(held) else -1
    match rng.integers(3):
        case 0 if place >= 0:
            del held[place]
        case 1 if place >= 0:
            held.append(held[place])
        case _ if field.type == FieldDescriptor.TYPE_MESSAGE:
            held.add()
        case _:
            held.insert(max(place, 0), _value(field, rng, words))


def _value(field: FieldDescriptor, rng: np.random.Generator, words: Sequence[str]) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            word = _one(words, rng)
            return word.encode() if field.type == FieldDescriptor.TYPE_BYTES else word
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return _one(_FLOATS, rng)
        case FieldDescriptor.CPPTYPE_ENUM if field.enum_type is not None:
            return _one(field.enum_type.values, rng).number
        case kind if kind in _BITS:
            limit = 1 << (_BITS[kind] - 1)
            return min(max(_one(_INTEGERS, rng), -limit), limit - 1)
        case _:
            return abs(_one(_INTEGERS, rng))


def _one(things: Sequence[Any], rng: np.random.Generator) -> Any:
    return things[int(rng.integers(len(things)))]
