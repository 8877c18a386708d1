"""The batch size that suits a model."""

from dataclasses import replace

from furiosa.compiler import CompileError, CompilerOptions, InvalidConfig, compile
from furiosa.compiler.instruments import Spills
from furiosa.compiler.options import MAX_BATCH
from furiosa.compiler.source import ir_of


def largest_batch(model: bytes, options: CompilerOptions) -> int:
    """The largest power of two, up to MAX_BATCH, with which all that is planned for SRAM fits there.

    1 when a batch of 2 does not fit or cannot be compiled. Each size tried is compiled.
    Raises: InvalidConfig for the text of an IR that has its batch size already.
    """
    if (ir := ir_of(model)) is not None and ir.name != "dfg":
        raise InvalidConfig(
            f"the source is a {ir.name}, whose batch size cannot be chosen any more"
        )
    options = replace(options, target_ir="enf")  # whose limits count as well
    batch = 1
    while 2 * batch <= MAX_BATCH and _fits(model, options.with_batch(2 * batch)):
        batch *= 2
    return batch


def _fits(model: bytes, options: CompilerOptions) -> bool:
    spills = Spills()
    try:
        compile(model, options, instruments=(spills,))
    except InvalidConfig:  # a dfg of another batch size
        raise
    except CompileError:  # what is wrong with the model itself is said when it is compiled for good
        return False
    return not spills.bytes
