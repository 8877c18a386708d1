"""Resize by linear interpolation."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node


def _resize(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    """Scales or sizes, whichever was given, stay operands."""
    source = stored(graph, producers, run.first.inputs[0])
    if source is None or source.data is not None:
        return None
    inputs = (source.name, *run.first.inputs[1:])
    return run.node("QResize", inputs, {**run.first.attributes, **run.clamp})


BUILDERS: Final[Mapping[str, Builder]] = {"Resize": _resize}
