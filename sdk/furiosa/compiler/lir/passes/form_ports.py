"""Write the form of each port into the port."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import ModelInfo
from furiosa.enf.program import Port


class FormPorts(Pass[Lir]):
    """Give ports the axes and extents that the model's forms say."""

    name: ClassVar[str] = "form-ports"

    def run(self, graph: Lir, options: CompilerOptions) -> PassResult[Lir]:
        if not graph.model.forms:
            return PassResult(graph, False)
        inputs, outputs = (
            tuple(_formed(port, graph.model) for port in ports)
            for ports in (graph.inputs, graph.outputs)
        )
        return PassResult(replace(graph, inputs=inputs, outputs=outputs), True)


def _formed(port: Port, model: ModelInfo) -> Port:
    form = model.form(port.name)
    return replace(port, axes=form.axes, extent=form.extent)
