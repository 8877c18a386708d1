"""Where the tensors of one program lie in an arena: slots for runs, and inputs lent to the caller.

An arena holds `workers` slots (inputs, then outputs), then as many blocks of inputs only, which
`allocate` lends. Arrays lent are filled in place and a run reads them where they are, without a copy.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import TensorSpec
from furiosa.queuepair import Geometry, Slots, tensor_offsets

Array = npt.NDArray[Any]

MAX_WORKERS: Final = 1024  # as deep as a queue pair can be
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
        self.geometry = Geometry(
            depth=1 << (workers - 1).bit_length(),
            arena_bytes=workers * (self.slot_bytes + self.inputs.nbytes),
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


class Places:
    """The arena of one device. Offsets are bytes from its start."""

    def __init__(self, arena: npt.NDArray[np.uint8], layout: Layout) -> None:
        memory = memoryview(arena)  # type: ignore[arg-type]  # an ndarray is a buffer
        self._memory = memory
        self._layout = layout
        self.slots = Slots(layout.slot_bytes, layout.workers)
        starts = range(0, layout.workers * layout.slot_bytes, layout.slot_bytes)
        self._inputs = {start: layout.inputs.views(memory, start) for start in starts}
        self._outputs = {
            start: layout.outputs.views(memory, self.outputs_at(start)) for start in starts
        }
        self._lendable = Slots(layout.inputs.nbytes, layout.workers)
        self._lent_base = layout.workers * layout.slot_bytes

    def outputs_at(self, slot: int) -> int:
        return slot + self._layout.inputs.nbytes

    def fill(self, slot: int, arrays: Sequence[Array]) -> None:
        for view, array in zip(self._inputs[slot], arrays, strict=True):
            np.copyto(view, array)

    def outputs(self, slot: int, wanted: Sequence[int]) -> list[Array]:
        """Copies, which outlive the slot."""
        views = self._outputs[slot]
        return [views[index].copy() for index in wanted]

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
