"""Bounds on everything a stranger's file may ask for. Sizes are in bytes."""

from dataclasses import dataclass
from typing import Final

from furiosa.common.errors import InvalidProgram

MAX_RANK: Final = 8
MAX_DIMENSION: Final = 1 << 31
ALIGNMENT: Final = (
    64  # of file sections, constants and buffers: one cache line, any vector register
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults describe one Warboy card and far more than any model in use needs."""

    file_bytes: int = 1 << 30
    metadata_bytes: int = 8 << 20
    metadata_fields: int = 1 << 20  # protobuf fields, before the parser may allocate for them
    instructions: int = 1 << 16
    buffers: int = 1 << 16
    constants: int = 1 << 16
    sections: int = 1 << 12
    ports: int = 1 << 10  # inputs, and outputs
    name_bytes: int = 1 << 10
    provenance_bytes: int = 1 << 14  # of one instruction
    tensor_bytes: int = 1 << 30
    graph_bytes: int = 256 << 20  # ONNX bytes of one host section
    graph_fields: int = 1 << 19
    graph_nodes: int = 1 << 14
    sram_bytes: int = 32 << 20  # on-chip memory of a card. Source: devices reference, section 1
    dram_bytes: int = 16 << 30


DEFAULT_LIMITS: Final = Limits()


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def bounded(rule: str, what: str, value: int, maximum: int) -> None:
    if value > maximum:
        raise InvalidProgram(rule, f"{what} is {value}, the limit is {maximum}")
