"""ENF, the executable format: programs for the virtual Warboy as values, bytes and text."""

from furiosa.enf.dump import dump
from furiosa.enf.isa import NONE, Instruction, Opcode, Window
from furiosa.enf.program import TARGETS, Buffer, HostSection, NpuSection, Port, Program, Space
from furiosa.enf.reader import read
from furiosa.enf.writer import write

__all__ = [
    "NONE",
    "TARGETS",
    "Buffer",
    "HostSection",
    "Instruction",
    "NpuSection",
    "Opcode",
    "Port",
    "Program",
    "Space",
    "Window",
    "dump",
    "read",
    "write",
]
