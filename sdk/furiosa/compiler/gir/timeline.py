"""When each step runs, and why it takes as long as it does. Model: docs/compiler/cost.md."""

from dataclasses import dataclass

from furiosa.compiler.cdfg.shares import cycles_by_pe, reading, shares
from furiosa.compiler.cost import constant_bytes, dram_cycles, link_cycles
from furiosa.compiler.gir.ir import Gir, Operation, is_in_place, schedule
from furiosa.compiler.gir.staging import in_dram, passes_through_sram, streams
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode
from furiosa.enf.program import TARGETS, Space


@dataclass(frozen=True, slots=True)
class Timing:
    """A step, in cycles from the start of the program: it lasts as long as the busiest unit.

    `pes` has the cycles at work of each PE of the target, `exchange` those of fetching from each other
    before it, `transfer` those of DRAM. `streamed` are the bytes of its own operands and constants that
    pass between DRAM and SRAM meanwhile, `prefetched` those of the next operation's constants.
    A host task takes the time of the transfers beside it: how long the CPU works is not known.
    """

    start: int
    pes: tuple[int, ...]
    exchange: int
    transfer: int
    streamed: int
    prefetched: int

    @property
    def cycles(self) -> int:
        return max(max(self.pes) + self.exchange, self.transfer)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`filling` are the cycles before the first step, when its constants arrive."""

    filling: int
    steps: tuple[Timing, ...]

    @property
    def cycles(self) -> int:
        return self.steps[-1].start + self.steps[-1].cycles if self.steps else self.filling


def timeline(graph: Gir) -> Timeline:
    """Of an allocated graph."""
    pes = TARGETS[graph.target]
    work = [item for _, item in schedule(graph)]
    ahead = [*map(_prefetched, work), 0]
    start = filling = dram_cycles(ahead[0])
    steps = []
    for item, prefetched in zip(work, ahead[1:], strict=True):
        busy, exchange, streamed = (0,) * pes, 0, 0
        if isinstance(item, Operation):
            busy = _busy(graph, item, pes)
            exchange = link_cycles(item.exchanged)
            streamed = _streamed(graph, item)
        transfer = dram_cycles(streamed + prefetched)
        steps.append(Timing(start, busy, exchange, transfer, streamed, prefetched))
        start += steps[-1].cycles
    return Timeline(filling, tuple(steps))


def _prefetched(item: object) -> int:
    """Bytes of constants that come before their operation."""
    if not isinstance(item, Operation) or item.constants is None or item.slices > 1:
        return 0
    return constant_bytes(item.node)


def _streamed(graph: Gir, operation: Operation) -> int:
    node = operation.node
    if node.opcode is Opcode.LOAD:  # from DRAM to where the result lies, perhaps DRAM
        nbytes = graph.buffers[operation.out].nbytes
        return nbytes * (2 if graph.buffers[operation.out].space is Space.DRAM else 1)
    if not passes_through_sram(operation, graph.buffers):
        return 0
    streamed = in_dram(operation, graph.buffers)
    found = streams(operation, graph.buffers, streamed, operation.axis, operation.tiles)
    moved = sum(stream.moved for stream in found)
    if operation.slices > 1:  # again for every tile, but for tiles of output channels
        moved += constant_bytes(node) * (1 if operation.axis == 1 else operation.tiles)
    return moved


def _busy(graph: Gir, operation: Operation, pes: int) -> tuple[int, ...]:
    if is_in_place(operation, graph.buffers):
        return (0,) * pes
    result = _value(graph, operation.out)
    sources = [_value(graph, index) for index in operation.sources]
    made = shares(result.shape, operation.pes, operation.split)
    wanted = reading(operation.node, [source.shape for source in sources], result.shape, made)
    found = cycles_by_pe(operation.node, sources, result, made, wanted)
    return tuple(found.get(pe, 0) for pe in range(pes))


def _value(graph: Gir, index: int) -> Value:
    buffer = graph.buffers[index]
    return Value(buffer.name, buffer.dtype, buffer.shape)
