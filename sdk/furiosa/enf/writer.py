"""A Program to bytes."""

from furiosa.enf import instructions, layout, metadata
from furiosa.enf.limits import DEFAULT_LIMITS, bounded
from furiosa.enf.program import Program
from furiosa.enf.verify import verify


def write(program: Program) -> bytes:
    """The file of a program; equal programs give equal bytes.

    Raises: InvalidProgram when the program breaks a rule of `furiosa.enf.verify`.
    """
    verify(program)
    described, constants = metadata.encode(program)
    bounded("metadata", "the size of the metadata", len(described), DEFAULT_LIMITS.metadata_bytes)
    data = layout.assemble(described, instructions.encode(program.instructions), constants)
    bounded("file-size", "the file size", len(data), DEFAULT_LIMITS.file_bytes)
    return data
