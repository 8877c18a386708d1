"""Where the tensors of one program lie in an arena: slots for runs, and tensors lent to the caller.

An arena holds `workers` slots (inputs, then outputs), then as many blocks of inputs only, which
`allocate` lends. Arrays lent are filled in place and a run reads them where they are, without a copy.

Then come spare blocks of outputs, if those are large. A run that is done leaves its outputs to its caller
and its slot takes a spare block instead; the block is spare again when nobody holds an array in it any
more. When there is no spare one left, outputs are copied: no run ever waits for who keeps results.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import TensorSpec
from furiosa.queuepair import Geometry, Slots, tensor_offsets

Array = npt.NDArray[Any]

MAX_WORKERS: Final = 1024  # as deep as a queue pair can be
LEFT_BYTES: Final = (
    128 * 1024
)  # fewer of outputs are copied: that takes less than to leave them, 2 us
SPARE_BYTES: Final = 64 * 1024 * 1024  # at most for spare blocks
DEFAULT_WORKERS: Final = 2  # one run on the device while the next one's inputs are copied


def checked_workers(worker_num: int | None) -> int:
    """Runs in flight per device. Raises: TypeError, ValueError."""
    if worker_num is None:
        return DEFAULT_WORKERS
    if not isinstance(worker_num, int) or isinstance(worker_num, bool):
        raise TypeError(f"worker_num: expected an int, found {type(worker_num).__name__}")
    if not 1 <= worker_num <= MAX_WORKERS:
        raise ValueError(f"worker_num: expected 1 to {MAX_WORKERS}, found {worker_num}")
    return worker_num


class Layout:
    """Offsets and sizes, computed once for a program."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], workers: int
    ) -> None:
        self.inputs = _Block(inputs)
        self.outputs = _Block(outputs)
        self.workers = workers
        self.slot_bytes = self.inputs.nbytes + self.outputs.nbytes
        self.spares = 0
        if self.outputs.nbytes >= LEFT_BYTES:
            self.spares = min(workers, SPARE_BYTES // self.outputs.nbytes)
        self.lent_base = workers * self.slot_bytes
        self.spare_base = self.lent_base + workers * self.inputs.nbytes
        self.geometry = Geometry(
            depth=1 << (workers - 1).bit_length(),
            arena_bytes=self.spare_base + self.spares * self.outputs.nbytes,
        )


class _Block:
    """The inputs, or the outputs, of one run, one after the other."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self.offsets, self.nbytes = tensor_offsets([spec.nbytes for spec in specs])
        self._kinds = tuple((spec.shape, spec.dtype.numpy, spec.nbytes) for spec in specs)

    def views(self, memory: memoryview, base: int) -> tuple[Array, ...]:
        """Writable arrays at `base`. The `base` of each is an array of its own, which all views of it
        keep alive: numpy passes the `base` of a view on until that is not an array's any more.
        """
        return tuple(
            np.frombuffer(memory[start : start + nbytes], dtype).reshape(shape)
            for start, (shape, dtype, nbytes) in zip(
                (base + offset for offset in self.offsets), self._kinds, strict=True
            )
        )

    def left(self, memory: memoryview, base: int) -> tuple[Array, list[Array]]:
        """Writable arrays at `base`, and the one that every array in this memory keeps alive."""
        whole = np.frombuffer(memory[base : base + self.nbytes], np.uint8)
        return whole, [
            whole[offset : offset + nbytes].view(dtype).reshape(shape)
            for offset, (shape, dtype, nbytes) in zip(self.offsets, self._kinds, strict=True)
        ]


class _Left(weakref.ref[Array]):
    """A block of outputs that callers have. Its callback runs anywhere, in any thread, and is swallowed if
    it raises, so it is a method of a list: in one made of bytecode a Ctrl-C could get lost.
    """

    __slots__ = ("base",)
    base: int


class Places:
    """The arena of one device. Offsets are bytes from its start."""

    def __init__(self, arena: npt.NDArray[np.uint8], layout: Layout) -> None:
        memory = memoryview(arena)  # type: ignore[arg-type]  # an ndarray is a buffer
        self._memory = memory
        self._layout = layout
        self.slots = Slots(layout.slot_bytes, layout.workers)
        starts = range(0, layout.workers * layout.slot_bytes, layout.slot_bytes)
        self._inputs = {start: layout.inputs.views(memory, start) for start in starts}
        self.outputs_at = {start: start + layout.inputs.nbytes for start in starts}  # by slot
        end = layout.spare_base + layout.spares * layout.outputs.nbytes
        self._spare = list(range(layout.spare_base, end, layout.outputs.nbytes or 1))
        self._outputs = {
            base: layout.outputs.views(memory, base)
            for base in (*self.outputs_at.values(), *self._spare)
        }
        self._left: dict[int, _Left] = {}
        self._given_up: list[_Left] = []  # spare again
        self._lendable = Slots(layout.inputs.nbytes, layout.workers)
        self._lent_base = layout.lent_base

    def fill(self, slot: int, arrays: Sequence[Array]) -> None:
        for view, array in zip(self._inputs[slot], arrays, strict=True):
            np.copyto(view, array)

    def outputs(self, slot: int, wanted: Sequence[int]) -> list[Array]:
        """The caller's own: copies, or arrays in memory that the slot does without from now on.

        Several threads may call it at once, for different slots.
        """
        base = self.outputs_at[slot]
        views = self._outputs[base]
        if self._layout.spares and sum([views[index].nbytes for index in wanted]) >= LEFT_BYTES:
            with suppress(IndexError):  # there is none, or another thread was faster
                self.outputs_at[slot] = self._take_spare()
                return self._leave(base, wanted)
        return [views[index].copy() for index in wanted]

    def _take_spare(self) -> int:
        if self._given_up:
            return self._given_up.pop().base
        return self._spare.pop()

    def _leave(self, base: int, wanted: Sequence[int]) -> list[Array]:
        whole, arrays = self._layout.outputs.left(self._memory, base)
        self._left[base] = _Left(whole, self._given_up.append)
        self._left[base].base = base
        return [arrays[index] for index in wanted]

    def borrow(self) -> tuple[int, tuple[Array, ...]] | None:
        """Input arrays outside the slots and their offset; None when all are lent."""
        offset = self._lendable.take()
        if offset is None:
            return None
        base = self._lent_base + offset
        return base, self._layout.inputs.views(self._memory, base)

    def give_back(self, base: int) -> None:
        self._lendable.give(base - self._lent_base)


class _Loan:
    def __init__(
        self, device: int, base: int, arrays: Sequence[Array], gone: deque["_Loan"]
    ) -> None:
        self.device = device
        self.base = base
        self.key = id(arrays[0])
        self.alive = len(arrays)
        self._arrays = tuple(weakref.ref(array) for array in arrays)
        # The callback may run anywhere, also while the caller's lock is held: it only takes a note.
        self._bases = tuple(weakref.ref(_base(a), lambda _: gone.append(self)) for a in arrays)

    def is_of(self, arrays: Sequence[Array]) -> bool:
        return all(ref() is array for ref, array in zip(self._arrays, arrays, strict=True))


def _base(array: Array) -> Array:
    base = array.base
    assert isinstance(base, np.ndarray)
    return base


class Loans:
    """What `allocate` has lent from the arenas of all devices; returned when the last array is gone."""

    def __init__(self, places: Sequence[Places]) -> None:
        self._places = places
        self._by_first: dict[int, _Loan] = {}
        self._gone: deque[_Loan] = deque()
        self._next = 0

    def lend(self) -> tuple[Array, ...] | None:
        """The inputs of one run, the devices taking turns; None when everything is lent."""
        self._collect()
        for _ in self._places:
            device = self._next
            self._next = (device + 1) % len(self._places)
            borrowed = self._places[device].borrow()
            if borrowed is not None:
                base, arrays = borrowed
                loan = _Loan(device, base, arrays, self._gone)
                self._by_first[loan.key] = loan
                return arrays
        return None

    def find(self, arrays: Sequence[Array]) -> tuple[int, int] | None:
        """Device and offset, when these are exactly the arrays of one loan, in order."""
        if not self._by_first:
            return None
        loan = self._by_first.get(id(arrays[0]))
        if loan is None or not loan.is_of(arrays):
            return None
        return loan.device, loan.base

    def _collect(self) -> None:
        while self._gone:
            loan = self._gone.popleft()
            loan.alive -= 1
            if not loan.alive:
                if self._by_first.get(loan.key) is loan:  # the id may be another array's by now
                    del self._by_first[loan.key]
                self._places[loan.device].give_back(loan.base)
