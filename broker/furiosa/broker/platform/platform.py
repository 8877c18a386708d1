"""The virtual platform: a device tree for cards that are not there, kept current while they work.

Every file is replaced in one step, so a reader never sees half of one.

Cards can be made to fail: by `faults`, or by hand below the platform's folder. What somebody else has
written or removed stays so until the next start, for the platform only writes over its own. Write 0 into
sys/class/npu_mgmt/npu0_mgmt/alive; write 99000 into the temp<n>_input whose temp<n>_label says Peak; give
sys/class/npu_mgmt/npu0_mgmt another name and its own again, as if the card were pulled out and put back.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from furiosa.broker.platform import contents
from furiosa.broker.platform.faults import Faults
from furiosa.broker.platform.folder import Folder
from furiosa.broker.platform.identity import Identity, identity, machine_id
from furiosa.broker.platform.perf_regs import CYCLES_PER_NS, perf_regs
from furiosa.broker.platform.thermal import Climate, step
from furiosa.common.names import MAX_CARD, DeviceFile
from furiosa.common.views import Origin
from furiosa.sysfs import tree

# Sensors move this often at most: they are two dozen files a card, and a body of metal is slow.
SENSOR_SECONDS: Final = 1.0


class Measured(Protocol):
    """What the worker behind a device file has done since it started; both only grow."""

    @property
    def task_ns(self) -> int: ...

    @property
    def tensor_ns(self) -> int: ...


class Failed(Protocol):
    """What went wrong on a device file since the broker started; all only grow."""

    @property
    def device(self) -> int: ...

    @property
    def fetch(self) -> int: ...

    @property
    def discarded(self) -> int: ...


WELL: Final = Faults()


@dataclass(slots=True)
class _Registers:
    """Counters of one device file, in ns. They outlive its workers, each of which counts from 0."""

    task_ns: int = 0
    tensor_ns: int = 0
    seen_task_ns: int = 0
    seen_tensor_ns: int = 0

    def add(self, measured: Measured | None) -> int:
        """Returns the new task time."""
        task, tensor = (0, 0) if measured is None else (measured.task_ns, measured.tensor_ns)
        if task < self.seen_task_ns:  # another worker
            self.seen_task_ns = self.seen_tensor_ns = 0
        new = task - self.seen_task_ns
        self.task_ns += new
        self.tensor_ns += max(0, tensor - self.seen_tensor_ns)
        self.seen_task_ns, self.seen_tensor_ns = task, tensor
        return new


@dataclass(slots=True)
class _Card:
    identity: Identity
    busy_ns: int = 0  # core time since the sensors moved
    climate: Climate = field(default_factory=Climate)


class VirtualPlatform:
    """`cards` emulated Warboys under `folder`, which becomes a root for `devices.discover`.

    The folder is the platform's own: `write` removes what does not belong to these cards. `machine` is
    what their serial numbers are made from. Not safe for use by two threads at once.
    Raises: ValueError for a number of cards outside 0 to 65536.
    """

    def __init__(self, folder: Path, cards: int, *, machine: str | None = None) -> None:
        if not 0 <= cards <= MAX_CARD + 1:
            raise ValueError(f"{cards} virtual cards: 0 to {MAX_CARD + 1} are possible")
        machine = machine_id() if machine is None else machine
        self._folder = Folder(folder)
        self._cards = [_Card(identity(machine, index)) for index in range(cards)]
        self._registers = {
            file: _Registers() for index in range(cards) for file in contents.device_files(index)
        }
        self._in_use: Set[DeviceFile] = frozenset()
        self._faults = WELL
        self._started: float | None = None
        self._sensed = 0.0

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def files(self) -> Set[DeviceFile]:
        """Device files of all cards."""
        return self._registers.keys()

    def write(self) -> None:
        """Make the folder hold exactly these cards, idle and cold. Call it once, before `tick`.

        Device files that are there stay the same files.
        Raises: FileExistsError when the folder holds a device tree that no virtual platform wrote.
        """
        root = self._folder
        if not tree.is_emulated(root.path):
            for top in ("dev", "sys"):
                if (root.path / top).exists():
                    raise FileExistsError(f"{root.path / top} is not a virtual platform's")
        root.make(".")
        # first of all: without it, a reader would look for character devices
        marker = {"origin": Origin.EMULATED.value, "cards": len(self._cards)}
        root.write(tree.MARKER, json.dumps(marker) + "\n")
        folders = ["dev", contents.class_folder("")]
        folders += [contents.class_folder(str(file)) for file in self._registers]
        files = []
        if self._cards:
            root.make(str(Path(contents.HEARTBEAT).parent))
            root.put(contents.HEARTBEAT, "0\n")
            files.append(contents.HEARTBEAT)
        for index, card in enumerate(self._cards):
            files += self._write_card(index, card)
        for folder in folders:
            root.make(folder)
        for top in ("dev", "sys"):
            root.keep_only(top, files, folders)

    def tick(
        self,
        readings: Mapping[DeviceFile, Measured | None],
        now: float | None = None,
        *,
        errors: Mapping[DeviceFile, Failed] = MappingProxyType({}),
        faults: Faults = WELL,
    ) -> None:
        """Bring counters, heartbeat and, once in `SENSOR_SECONDS`, sensors up to `now`; what `faults` do
        to cards shows at once.

        `readings` has one entry for each device file in use; None: its worker has not started. A file
        has `perf_regs` exactly while it is in use (hardware refuses to read it otherwise; a mode of
        000 would not stop root). Two reads of the counters need a tick before each. `errors` of files
        that are left out are 0.
        `now` is in monotonic seconds; None: the present.
        Raises: KeyError for a file this platform has not; OSError.
        """
        now = time.monotonic() if now is None else now
        if self._started is None:
            self._started = self._sensed = now
        uptime = now - self._started
        if not readings.keys() <= self._registers.keys():
            unknown = readings.keys() - self._registers.keys()
            raise KeyError(f"no such device file: {', '.join(map(str, unknown))}")
        for file in self._in_use - readings.keys():
            self._folder.remove(contents.perf_regs_file(file))
            registers = self._registers[file]
            registers.seen_task_ns = registers.seen_tensor_ns = 0
        self._in_use = frozenset(readings)
        for file, measured in readings.items():
            self._cards[file.npu].busy_ns += self._count(file, measured, uptime) * _width(file)
        if self._cards:
            self._folder.write(contents.HEARTBEAT, f"{int(uptime)}\n")
        if now - self._sensed >= SENSOR_SECONDS:
            self._move_sensors(now - self._sensed)
            self._sensed = now
        if faults != self._faults:
            self._faults = faults
            for index, card in enumerate(self._cards):
                self._folder.write(*contents.alive_file(index, faults.is_alive(index)))
                self._show_climate(index, card)
        self._write_errors(errors)

    def _move_sensors(self, seconds: float) -> None:
        for index, card in enumerate(self._cards):
            load = card.busy_ns / (seconds * 1e9 * contents.CORES)
            card.busy_ns = 0
            before, card.climate = card.climate, step(card.climate, load, seconds)
            if card.climate != before:
                self._show_climate(index, card)

    def _show_climate(self, index: int, card: _Card) -> None:
        celsius = self._faults.celsius(index)
        shown = card.climate if celsius is None else replace(card.climate, celsius=celsius)
        for name, text in contents.sensor_files(card.identity, shown).items():
            self._folder.write(name, text)

    def _write_errors(self, errors: Mapping[DeviceFile, Failed]) -> None:
        """Source: devices reference 7 (names). What each counts here: docs/virtual-cards.md."""
        counts: dict[int, Counter[str]] = {}
        for file, failed in errors.items():
            card = counts.setdefault(file.npu, Counter())
            card["PCIe Fetch Error"] += failed.fetch
            card["PCIe Discard Error"] += failed.discarded
            card["Device Error"] += failed.device
        for index, card in counts.items():
            self._folder.write(*contents.error_file(index, card))

    def _write_card(self, index: int, card: _Card) -> Iterator[str]:
        """The link that makes the card visible comes last."""
        texts = {
            **contents.constant_files(index, card.identity),
            **contents.sensor_files(card.identity, card.climate),
            **dict((contents.alive_file(index, True), contents.error_file(index, {}))),
        }
        for folder in {name.rpartition("/")[0] for name in texts}:
            self._folder.make(folder)
        for name, text in texts.items():
            self._folder.put(name, text)
            yield name
        link, target = contents.heartbeat_link(index)
        self._folder.link(link, target)
        yield link
        self._folder.make("dev")
        for node in contents.node_names(index):
            self._folder.touch(f"dev/{node}")
            yield f"dev/{node}"
        name = f"npu{index}_mgmt"
        link = contents.class_folder(name)
        self._folder.make(contents.class_folder(""))
        self._folder.link(link, f"../../devices/virtual/npu_mgmt/{name}")
        yield link

    def _count(self, file: DeviceFile, measured: Measured | None, uptime: float) -> int:
        """Returns the task time since the last tick, in ns."""
        registers = self._registers[file]
        new = registers.add(measured)
        self._folder.write(
            contents.perf_regs_file(file),
            perf_regs(
                round(uptime * 1e9) * CYCLES_PER_NS,
                registers.task_ns * CYCLES_PER_NS,
                registers.tensor_ns * CYCLES_PER_NS,
            ),
        )
        return new


def _width(file: DeviceFile) -> int:
    return contents.CORES if file.cores.is_all else file.cores.width
