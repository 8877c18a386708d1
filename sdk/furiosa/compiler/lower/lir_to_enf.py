"""lir to the bytes of an ENF file."""

from typing import ClassVar

from furiosa.common.build import VERSION
from furiosa.common.errors import InvalidProgram
from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.infra import Lowering
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.program import Program
from furiosa.enf.writer import write


class LirToEnf(Lowering[Lir, bytes]):
    """The same lir gives the same bytes. Raises: InvalidModel for what exceeds the format's limits."""

    name: ClassVar[str] = "lower-lir-to-enf"

    def run(self, graph: Lir, options: CompilerOptions) -> bytes:
        program = Program(
            name=graph.model.name,
            target=graph.target,
            compiler_version=VERSION.version,
            source_sha256=graph.model.sha256,
            batch=graph.model.batch,
            inputs=graph.inputs,
            outputs=graph.outputs,
            buffers=graph.buffers,
            constants=graph.constants,
            sections=graph.sections,
            instructions=graph.instructions,
            provenance=graph.provenance,
            dram_bytes=graph.dram_bytes,
            sram_bytes=graph.sram_bytes,
        )
        try:
            return write(program)
        except InvalidProgram as exc:
            raise InvalidModel(
                f"it makes a program that ENF cannot hold: {exc.detail}", "change the model"
            ) from None
