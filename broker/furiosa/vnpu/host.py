"""Host sections: ONNX graphs of a program, checked and then run by onnxruntime."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from furiosa.common.errors import InvalidProgram
from furiosa.enf import HostSection, Program
from furiosa.enf.onnxgraph import check_host_graph
from furiosa.vnpu import session


class HostGraph:
    """One graph, ready to run. Raises: InvalidProgram for a graph that may not or cannot run."""

    def __init__(self, program: Program, section: HostSection, threads: int = 1) -> None:
        model = program.constants[section.graph].tobytes()
        inputs = [program.buffers[b] for b in section.inputs]
        outputs = [program.buffers[b] for b in section.outputs]
        check_host_graph(model, inputs, outputs)
        try:
            self.session = session.create(model, threads)
        except Exception as error:  # onnxruntime's own types have no common base
            raise InvalidProgram("host-graph", f"onnxruntime refuses it: {error!s:.300}") from None
        self.input_names = tuple(value.name for value in self.session.get_inputs())
        self.output_names = tuple(value.name for value in self.session.get_outputs())

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Raises: ExecutionFailed."""
        feeds = dict(zip(self.input_names, inputs, strict=True))
        try:
            results: list[npt.NDArray[Any]] = self.session.run(list(self.output_names), feeds)
        except Exception as error:
            raise session.ExecutionFailed(f"{error!s:.300}") from None
        return results
