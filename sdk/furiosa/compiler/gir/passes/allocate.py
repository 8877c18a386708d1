"""Give every buffer an address."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.diagnostics import OutOfDram
from furiosa.compiler.gir.ir import Buffer, Gir
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.limits import DEFAULT_LIMITS, Limits, aligned
from furiosa.enf.program import Space

_NAMED = 5  # tensors an error lists


class Allocate(Pass[Gir]):
    """Largest first, each at the lowest address where nothing alive at the same time lies.

    SRAM buffers that do not fit spill to DRAM. `limits` has the sizes of a card's memories.
    Raises: OutOfDram.
    """

    name: ClassVar[str] = "allocate"

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits

    def run(self, graph: Gir, options: CompilerOptions) -> PassResult[Gir]:
        placed = {i: b for i, b in enumerate(graph.buffers) if b.alias is None}
        sram = _Space(Space.SRAM, self._limits.sram_bytes)
        dram = _Space(Space.DRAM, None)
        for index, buffer in _largest_first(placed.items()):
            fits = buffer.space is Space.SRAM and sram.place(index, buffer)
            if not fits:
                dram.place(index, buffer)
        if dram.used > self._limits.dram_bytes:
            largest = [buffer for _, buffer in _largest_first(dram.buffers.items())]
            raise OutOfDram(
                dram.used,
                self._limits.dram_bytes,
                tuple((buffer.name, buffer.nbytes) for buffer in largest[:_NAMED]),
            )
        done = sram.buffers | dram.buffers
        buffers = []
        for index, buffer in enumerate(graph.buffers):
            root = done[index if buffer.alias is None else buffer.alias]
            buffers.append(replace(buffer, space=root.space, offset=root.offset))
        return PassResult(
            replace(graph, buffers=tuple(buffers), sram_bytes=sram.used, dram_bytes=dram.used),
            True,
        )


class _Space:
    """Buffers placed in one space; no bound when `capacity` is None."""

    def __init__(self, space: Space, capacity: int | None) -> None:
        self._space = space
        self._capacity = capacity
        self.buffers: dict[int, Buffer] = {}
        self.used = 0

    def place(self, index: int, buffer: Buffer) -> bool:
        """Whether there was room."""
        taken = sorted(
            (other.offset, other.offset + other.nbytes)
            for other in self.buffers.values()
            if other.offset is not None
            and other.first <= buffer.last
            and buffer.first <= other.last
        )
        offset = 0
        for start, end in taken:
            if offset + buffer.nbytes <= start:
                break
            offset = max(offset, aligned(end))
        if self._capacity is not None and offset + buffer.nbytes > self._capacity:
            return False
        self.buffers[index] = replace(buffer, space=self._space, offset=offset)
        self.used = max(self.used, aligned(offset + buffer.nbytes))
        return True


def _largest_first(items: Iterable[tuple[int, Buffer]]) -> list[tuple[int, Buffer]]:
    return sorted(items, key=lambda item: (-item[1].nbytes, item[1].first, item[0]))
