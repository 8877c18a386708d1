"""What stays in DRAM, and how small the tiles are, so that what is alive in SRAM fits at every step."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

from furiosa.compiler.diagnostics import OutOfSram
from furiosa.compiler.gir.ir import Buffer, Gir, Operation, Role, operations, place_of, uses
from furiosa.compiler.gir.staging import TIGHT, Needs, budget_of, needs
from furiosa.enf.limits import aligned
from furiosa.enf.program import Space

_NAMED = 5  # tensors an error lists


class Spilling:
    """A plan of what is in SRAM, which gives way step by step.

    At the fullest step those activations go to DRAM whose stay there moves the fewest bytes for each
    byte of SRAM that it frees at an overfull step. When none frees anything there, operations at work
    get their operands and constants in the smallest tiles.
    """

    def __init__(self, graph: Gir) -> None:
        self._graph = graph
        self.buffers: list[Buffer] = list(graph.buffers)
        self._operations: dict[int, Operation] = dict(operations(graph))
        self._budgets = dict.fromkeys(self._operations, budget_of(graph.sram_capacity))
        self._users: dict[int, list[int]] = {}  # steps at which the bytes of a buffer are used
        for step, read, written in uses(graph):
            for index in dict.fromkeys((*read, *written)):
                self._users.setdefault(place_of(graph.buffers, index), []).append(step)
        self._alive = [0] * (graph.steps + 1)
        self.needs: dict[int, Needs] = {}
        for buffer in self.buffers:
            if buffer.space is Space.SRAM and buffer.alias is None:
                self._count(buffer.first, buffer.last, aligned(buffer.nbytes))
        for step in self._operations:
            self._plan(step)

    def fit(self, target: int, needed: int = 0) -> None:
        """Give way until no step has more than `target` bytes alive.

        `needed` is what a plan took that did not fit for the gaps in it. Raises: OutOfSram.
        """
        while (most := max(self._alive)) > target:
            step = self._alive.index(most)
            for index in self._ranked(step, target):
                if self._alive[step] <= target:
                    break
                self._spill(index)
            if self._alive[step] == most and not self._tighten(step):
                raise self._refusal(step, needed)

    def _count(self, first: int, last: int, nbytes: int) -> None:
        for step in range(first, last + 1):
            self._alive[step] += nbytes

    def _plan(self, step: int, sign: int = 1) -> None:
        if sign < 0:
            found = self.needs[step]
        else:
            found = needs(self._operations[step], self.buffers, self._budgets[step])
            self.needs[step] = found
        self._count(prefetched_at(step, found), step, sign * aligned(found.constants))
        self._count(step, step, sign * sum(stream.held for stream in found.streams))

    def _again(self, steps: Sequence[int]) -> None:
        for step in steps:
            if step in self._operations:
                self._plan(step)

    def _forget(self, steps: Sequence[int]) -> None:
        for step in steps:
            if step in self._operations:
                self._plan(step, -1)

    def _ranked(self, step: int, target: int) -> list[int]:
        """The activations alive at `step` that free something there, least moved for what it frees first."""
        overfull = [0, *accumulate(nbytes > target for nbytes in self._alive)]
        found: list[tuple[Fraction, int, int]] = []
        for index, buffer in enumerate(self.buffers):
            if not (buffer.first <= step <= buffer.last) or not _is_spillable(buffer):
                continue
            users, size = self._users[index], aligned(buffer.nbytes)
            tile = min(size, self._budgets[step].tiles if step in self._budgets else 0)
            if step in users and tile == size:
                continue
            freed = size * (overfull[buffer.last + 1] - overfull[buffer.first])
            freed -= tile * sum(overfull[at + 1] - overfull[at] for at in users)
            found.append((Fraction(size * len(users), freed), -size, index))
        return [index for *_, index in sorted(found)]

    def _spill(self, index: int) -> None:
        users = self._users[index]
        self._forget(users)
        root = self.buffers[index]
        self._count(root.first, root.last, -aligned(root.nbytes))
        for number, buffer in enumerate(self.buffers):
            if place_of(self.buffers, number) == index:
                self.buffers[number] = replace(buffer, space=Space.DRAM, spilled=True)
        self._again(users)

    def _tighten(self, step: int) -> bool:
        """Whether an operation with bytes at `step` could give way."""
        found = [n for n in (step, step + 1) if self._budgets.get(n, TIGHT) != TIGHT]
        self._forget(found)
        for n in found:
            self._budgets[n] = TIGHT
        self._again(found)
        return bool(found)

    def _refusal(self, step: int, needed: int) -> OutOfSram:
        return OutOfSram(
            max(self._alive[step], needed),
            self._graph.sram_capacity,
            tuple(self._largest(step))[:_NAMED],
        )

    def _largest(self, step: int) -> list[tuple[str, int]]:
        found = [
            (buffer.name, buffer.nbytes)
            for buffer in self.buffers
            if buffer.space is Space.SRAM
            and buffer.alias is None
            and buffer.first <= step <= buffer.last
        ]
        found += [(name, nbytes) for name, nbytes in self._staged(step) if nbytes]
        return sorted(found, key=lambda item: -item[1])

    def _staged(self, step: int) -> Iterator[tuple[str, int]]:
        for at in (step, step + 1):
            if (found := self.needs.get(at)) is None:
                continue
            if prefetched_at(at, found) <= step:
                yield f"constants of {self._operations[at].node.name}", found.constants
            if at == step:
                for stream in found.streams:
                    yield f"tiles of {self.buffers[stream.buffer].name}", stream.held


def prefetched_at(step: int, found: Needs) -> int:
    """The step from which on an operation's constants are in SRAM: one ahead, if they come whole."""
    return max(step - 1, 0) if found.slices == 1 else step


def _is_spillable(buffer: Buffer) -> bool:
    return buffer.role is Role.ACTIVATION and buffer.space is Space.SRAM and buffer.alias is None
