"""ENF bytes to a program that runs. The only importer of furiosa.enf and furiosa.vnpu in the broker."""

from furiosa.broker.workers.child.program import Admit, LoadedProgram
from furiosa.common.errors import UnsupportedProgram
from furiosa.enf import TARGETS, read
from furiosa.vnpu.engine import Engine


def load(data: bytes, pes: int, traced: bool, admit: Admit) -> LoadedProgram:
    """Raises: InvalidProgram; UnsupportedProgram, also when it was made for another number of PEs;
    whatever `admit` raises.
    """
    program = read(data)
    if TARGETS[program.target] != pes:
        expected = next(target for target, count in TARGETS.items() if count == pes)
        raise UnsupportedProgram("target", program.target, expected)
    admit(program.device_bytes)
    engine = Engine(program, pes, traced=traced)
    return LoadedProgram.of(
        program.target, engine.input_specs, engine.output_specs, engine, program.device_bytes
    )
