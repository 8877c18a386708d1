"""What an operator of the NPU is, as the graph sees it, and words that conditions share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.enf.isa import Opcode

EIGHT_BIT: Final = (DType.INT8, DType.UINT8)
_INT32: Final = 2**31

Condition = Callable[[Node, Dfg], str | None]  # why the NPU cannot run this node; None when it can


def always(node: Node, graph: Dfg) -> str | None:
    return None


def first(node: Node) -> tuple[str, ...]:
    return node.inputs[:1]


def every(node: Node) -> tuple[str, ...]:
    return node.inputs


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that the NPU can run.

    `covers` are the ONNX operators it comes from and `when` its condition in words, for the table in
    docs/compiler/operators.md, as are the `instructions` it is done with; of the inputs `activations` some
    must not be constants. A `stores` operator (a Q operator) reads and writes 8-bit tensors quantised as a
    whole and, if it `clamps`, stores nothing outside its attributes `low`..`high`; nothing but the NPU runs
    it.
    """

    covers: tuple[str, ...]
    when: str
    condition: Condition = always
    activations: Callable[[Node], tuple[str, ...]] = first
    stores: bool = False
    clamps: bool = True
    instructions: tuple[Opcode, ...] = ()


def ints(node: Node, key: str) -> tuple[int, ...]:
    found = node.attributes.get(key, (1, 1))  # only dilations may be left out
    assert isinstance(found, tuple)
    return tuple(int(number) for number in found)


def overflow(taps: int, bias: float, largest: int = 128) -> str | None:
    """A sum of 8-bit numbers times numbers up to `largest` may not leave int32. Source: docs/isa.md."""
    worst = taps * 255 * largest + bias
    return f"its sums reach {worst:.0f}" if worst >= _INT32 else None
