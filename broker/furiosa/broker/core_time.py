"""How long each core was busy: what its workers measured, added up over all of them.

Each worker counts from 0, and its count is gone with it; these only grow.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from furiosa.common.names import DeviceFile


class Measured(Protocol):
    """What the worker behind a device file has done since it started."""

    @property
    def task_ns(self) -> int: ...


class CoreTime:
    """`cores` tells the numbers of a file's cores; time in a fused file counts for each of them."""

    def __init__(self, cores: Callable[[DeviceFile], Sequence[int]]) -> None:
        self._cores = cores
        self._seen: dict[DeviceFile, int] = {}  # ns, of the worker that runs now
        self._total: Counter[tuple[int, int]] = Counter()  # ns

    def note(self, file: DeviceFile, measured: Measured | None) -> None:
        """What its worker measured so far; None: there is none. Once a second is often enough."""
        now = 0 if measured is None else measured.task_ns
        before = self._seen.get(file, 0)
        self._seen[file] = now
        new = now - before if now >= before else now  # less: another worker
        for core in self._cores(file):
            self._total[file.npu, core] += new

    def ended(self, file: DeviceFile, measured: Measured | None) -> None:
        """The same, before the lease's workers are stopped: the next ones begin at 0."""
        if measured is not None or file in self._seen:
            self.note(file, measured)
            del self._seen[file]

    def seconds(self) -> Mapping[tuple[int, int], float]:
        """By card and core, of those that were ever leased."""
        return {key: ns / 1e9 for key, ns in self._total.items()}
