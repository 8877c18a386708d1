"""Let the caller give inputs with their axes in another order."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.config import Permutation
from furiosa.compiler.dfg.boundary import Boundary, quantized_input
from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.diagnostics import InvalidConfig
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import PortForm, Value


class PermuteInputs(Pass[Dfg]):
    """Put a Transpose behind each input whose permutation in `permute_input` changes its order.

    Axis i of what the model reads is axis p[i] of what the caller gives, as torch.permute has it. An
    input that is only quantised is transposed afterwards, when it is a quarter of its size.
    Raises: InvalidConfig for permutations that do not fit the inputs.
    """

    name: ClassVar[str] = "permute-inputs"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        given = options.config.permute_input
        if not given:
            return PassResult(graph, False)
        if len(given) != len(graph.inputs):
            raise InvalidConfig(
                f"compiler config: 'permute_input' has {len(given)} permutations and the model has "
                f"{len(graph.inputs)} inputs: give one for each, [0, 1, 2, 3] to leave one as it is"
            )
        for port, axes in zip(graph.inputs, given, strict=True):
            _check(graph, port, axes)
        changed = [
            (port, axes)
            for port, axes in zip(graph.inputs, given, strict=True)
            if axes != tuple(range(len(axes)))
        ]
        if not changed:
            return PassResult(graph, False)
        boundary = Boundary(graph.copy())
        for port, axes in changed:
            _permute(boundary, port, axes)
        return PassResult(boundary.finish(), True)


def _check(graph: Dfg, port: str, axes: Permutation) -> None:
    rank = len(graph.values[port].shape)
    if sorted(axes) != list(range(rank)):
        raise InvalidConfig(
            f"compiler config: 'permute_input' has {list(axes)} for input '{port}': "
            f"expected each of its {rank} axes once, counted from 0"
        )
    if graph.model.batch > 1 and axes[0] != 0:
        raise InvalidConfig(
            f"compiler config: 'permute_input' has {list(axes)} for input '{port}': axis 0 stays "
            f"where it is in a batch of {graph.model.batch}"
        )


def _permute(boundary: Boundary, port: str, axes: Permutation) -> None:
    graph = boundary.graph
    source = graph.values[port]
    letters = boundary.axes(port)
    stored = quantized_input(graph, port)
    graph.add(_outer(source, port, axes))
    if letters:
        outer = "".join(letter for _, letter in sorted(zip(axes, letters, strict=True)))
        graph.model = graph.model.with_form(PortForm(port, outer))
    target = stored or source
    if stored is None:
        inner = boundary.value(source, f"{port}/permuted", source.shape)
        boundary.rename(port, inner)
        boundary.before.append(boundary.node(port, "Transpose", (port,), inner, perm=axes))
        return
    early = graph.add(_outer(target, graph.fresh(f"{port}/quantized"), axes))
    readers = {node.outputs[0] for node in graph.nodes if port in node.inputs}
    graph.nodes = [node for node in graph.nodes if not readers.intersection(node.outputs)]
    boundary.before.append(boundary.node(port, "Quantize", (port,), early))
    boundary.before += [
        boundary.node(port, "Transpose", (early,), name, perm=axes) for name in sorted(readers)
    ]


def _outer(value: Value, name: str, axes: Permutation) -> Value:
    """`value` with its axes as the caller has them."""
    shape = tuple(size for _, size in sorted(zip(axes, value.shape, strict=True)))
    params = value.quantization
    if params is not None and params.axis is not None:
        params = replace(params, axis=axes[params.axis])
    return replace(value, name=name, shape=shape, quantization=params)
