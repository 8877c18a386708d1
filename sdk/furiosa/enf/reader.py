"""Bytes of a stranger to a verified Program."""

from furiosa.enf import instructions, layout, metadata
from furiosa.enf.limits import DEFAULT_LIMITS, Limits
from furiosa.enf.program import Program
from furiosa.enf.verify import verify


def read(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Program:
    """The program in `data`, sound by every rule of `furiosa.enf.verify`.

    Owns: constants are read-only views of `data`, which must not change while the program is in use.
    A file that its writer still holds open must therefore be read into memory first, not mapped.
    Raises: InvalidProgram; UnsupportedProgram for a format version or flag unknown to this reader.
    """
    sections = layout.split(memoryview(data).cast("B").toreadonly(), limits)
    decoded = instructions.decode(sections.instructions, limits)
    program = metadata.decode(sections.metadata, decoded, sections.constants, limits)
    verify(program, limits)
    return program
