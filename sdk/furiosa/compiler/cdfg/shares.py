"""Who makes and who holds what: the PEs' shares of a result, and what they fetch from each other.

Of a value in SRAM each PE holds the share that it made. A value in DRAM is there for every PE.
"""

from collections.abc import Mapping, Sequence

from furiosa.compiler.cdfg.boxes import Box, Shape, common, cut, elements, read, whole
from furiosa.compiler.cdfg.ir import Cdfg, NpuTask, Split
from furiosa.compiler.cost import Piece, cycles
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.compiler.value import Value

Shares = Mapping[int, Box]  # by PE; one that takes no part has none


def pes_in(mask: int) -> tuple[int, ...]:
    return tuple(pe for pe in range(mask.bit_length()) if mask >> pe & 1)


def shares(shape: Shape, pes: int, split: Split) -> Shares:
    """Ranges of equal size, the last one smaller; all of it for one PE."""
    found = pes_in(pes)
    if split is Split.NONE:
        return {found[0]: whole(shape)}
    size = shape[split.axis]
    each = -(-size // len(found))
    return {
        pe: cut(shape, split.axis, n * each, min(each, size - n * each))
        for n, pe in enumerate(found)
    }


def is_splittable(shape: Shape, split: Split, pes: int) -> bool:
    """Whether there are as many equal shares, the last of which may be smaller, as PEs."""
    if len(shape) <= split.axis:
        return False
    each = -(-shape[split.axis] // pes)
    return shape[split.axis] > each * (pes - 1)


def reading(
    node: NpuNode, sources: Sequence[Shape], result: Shape, made: Shares
) -> Sequence[Shares]:
    """The part of each source that each PE reads to make its share."""
    found: list[dict[int, Box]] = [{} for _ in sources]
    for pe, box in made.items():
        for part, reads in zip(found, read(node, sources, result, box), strict=True):
            part[pe] = reads
    return found


def fetched(wanted: Shares, held: Shares) -> int:
    """Elements of a value that PEs want and do not hold."""
    if wanted == held:
        return 0
    return sum(
        [elements(box) - (common(box, held[pe]) if pe in held else 0) for pe, box in wanted.items()]
    )


def cycles_by_pe(
    node: NpuNode, sources: Sequence[Value], result: Value, made: Shares, wanted: Sequence[Shares]
) -> dict[int, int]:
    """Cycles of each PE that takes part."""
    return {
        pe: cycles(
            node,
            [
                Piece(tuple([count for _, count in part[pe]]), source.dtype.itemsize)
                for source, part in zip(sources, wanted, strict=True)
            ],
            Piece(tuple([count for _, count in box]), result.dtype.itemsize),
        )
        for pe, box in made.items()
    }


def exchanges(graph: Cdfg) -> list[int]:
    """Of each NPU operation, in order: bytes of its sources that PEs fetch from each other."""
    shared, values = graph.shared, graph.values
    held: dict[str, Shares] = {}
    found = []
    for task in graph.tasks:
        for operation in task.operations if isinstance(task, NpuTask) else ():
            node = operation.node
            result = values[node.output].shape
            held[node.output] = made = shares(result, operation.pes, operation.split)
            sources = [values[name].shape for name in node.inputs]
            wanted = reading(node, sources, result, made)
            found.append(
                sum(
                    fetched(part, held[name]) * values[name].dtype.itemsize
                    for name, part in zip(node.inputs, wanted, strict=True)
                    if name not in shared
                )
            )
    return found
