"""Classic BPF as the kernel runs it on a system call, for filters of machines this is not running on."""

import struct
from collections.abc import Sequence

_INSTRUCTION = struct.Struct("=HBBI")
_DATA = struct.Struct("=iIQ6Q")  # struct seccomp_data


def verdict(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What the program returns. It ends: jumps go forward only."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = _DATA.pack(number, architecture, 0, *padded)
    code = list(_INSTRUCTION.iter_unpack(program))
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x25:
                at += if_true if accumulator > value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise ValueError(f"operation {operation:#x}")
