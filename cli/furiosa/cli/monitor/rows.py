"""What each table says: cards and their cores, leases and their owners, waiters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from furiosa.cli.monitor.grid import Cell, Column, Meter, Spark, Text, Tone
from furiosa.cli.monitor.history import History
from furiosa.cli.monitor.sample import Sample
from furiosa.cli.render.table import Align
from furiosa.cli.render.times import span
from furiosa.cli.render.values import celsius, container, watts
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Availability,
    CoreState,
    CoreView,
    DeviceView,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    ProcessView,
    WaiterView,
)

_NONE: Final = "-"
_LAST: Final = float("inf")  # sorts what is not known behind what is
_WARM: Final = 70.0  # degrees from which a temperature is worth a look, and a second one
_HOT: Final = 85.0
_COOL: Final = 20.0  # the lowest tick of a temperature's history; the highest is 100 degrees

NameOf = Callable[[int], str]  # of a user, by number
Value = str | float | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """`values` sort, by column; `words` are what a filter looks in; `detail` is the whole story in a line.

    `below` follow the row wherever it goes.
    """

    key: str
    cells: tuple[Cell, ...]
    values: tuple[Value, ...]
    words: str
    detail: str
    subject: DeviceView | LeaseView | WaiterView | ProcessView
    below: tuple["Row", ...] = ()


CARDS: Final = (
    Column("NPU"),
    Column("STATE", limit=21),
    Column("USE", Align.RIGHT),
    Column("", share=2, rank=3),
    Column("USE HISTORY", share=4),
    Column("TEMP", Align.RIGHT),
    Column("TEMP HISTORY", share=3, rank=2),
    Column("POWER", Align.RIGHT, rank=1),
)
LEASES: Final = (
    Column("LEASE", limit=12),
    Column("DEVICE", limit=19),
    Column("STATE", rank=2, limit=15),
    Column("USER", rank=1, limit=12),
    Column("TENANT", rank=5, limit=20),
    Column("PRIO", Align.RIGHT, rank=6),
    Column("PID", Align.RIGHT),
    Column("USE", Align.RIGHT),
    Column("HELD", Align.RIGHT, rank=4),
    Column("ENDS", Align.RIGHT),
    Column("WHERE", rank=3, limit=20),
    Column("COMMAND", share=1, least=22),
)
WAITERS: Final = (
    Column("POS", Align.RIGHT),
    Column("WANTS", limit=24),
    Column("USER", rank=3, limit=12),
    Column("TENANT", rank=4, limit=20),
    Column("PRIO", Align.RIGHT, rank=5),
    Column("PID", Align.RIGHT),
    Column("WAITS", Align.RIGHT),
    Column("GIVES UP", Align.RIGHT, rank=1),
    Column("WAITS FOR", share=1, rank=2),
    Column("COMMAND", share=1),
)


def cards(sample: Sample, history: History) -> list[Row]:
    """A row for each card, with its cores below."""
    return [_card(device, sample, history) for device in sample.devices]


def leases(sample: Sample, name_of: NameOf) -> list[Row]:
    """Leases, and behind them the processes that hold a file without one."""
    foreign = (process for process in sample.processes if not process.lease_id)
    held = [_lease(lease, sample, name_of) for lease in sample.overview.leases]
    return held + [_foreign(process) for process in foreign]


def waiters(sample: Sample, name_of: NameOf) -> list[Row]:
    return [_waiter(waiter, sample.at, name_of) for waiter in sample.overview.waiters]


def holders(sample: Sample, npu: int) -> list[LeaseView]:
    """Leases of a card's files."""
    return [
        lease
        for lease in sample.overview.leases
        if any(file.npu == npu for file in lease.device_files)
    ]


def command(owner: OwnerView) -> str:
    return owner.command_line or _NONE


def _card(device: DeviceView, sample: Sample, history: History) -> Row:
    use = sample.card_use(device)
    state = _card_state(device)
    temperature = device.temperature_millicelsius
    degrees = None if temperature is None else temperature / 1e3
    warmth = _warmth(degrees)
    emulated = " emulated" if device.origin is Origin.EMULATED else ""
    reason = f" ({device.reason})" if device.reason else ""
    return Row(
        key=device.name,
        cells=(
            Text(device.name, Tone.TITLE),
            state,
            _percent(use),
            Meter(use, Tone.MARK),
            Spark(history.card_use(device.index), 0.0, 1.0, Tone.MARK),
            Text(celsius(temperature), warmth),
            Spark(history.celsius(device.index), _COOL, 100.0, warmth),
            Text(watts(device.power_microwatts)),
        ),
        values=(
            device.index,
            state.text,
            use,
            use,
            use,
            _LAST if degrees is None else degrees,
            _LAST if degrees is None else degrees,
            _LAST if device.power_microwatts is None else device.power_microwatts,
        ),
        words=" ".join(
            (
                *(device.name, state.text, device.reason),
                *(_words(lease.owner, lease.tenant) for lease in holders(sample, device.index)),
            )
        ),
        detail=f"{device.name}: {device.availability.value}{reason}, {device.architecture.value}{emulated}, "
        f"firmware {device.firmware_version or _NONE}, PCI {device.pci_bdf or _NONE}",
        subject=device,
        below=tuple(_core(core, device, sample, history) for core in device.cores),
    )


def _core(core: CoreView, device: DeviceView, sample: Sample, history: History) -> Row:
    use = sample.core_use(device.index, core.core)
    name = f"{device.name}pe{core.core}"
    tone = Tone.DIM
    state = core.state.value
    if core.state is CoreState.OCCUPIED:
        tone = Tone.PLAIN
        if core.device_file is not None and str(core.device_file) != name:
            state = f"held by {core.device_file}"
    cells: tuple[Cell, ...] = (
        Text(f" pe{core.core}"),
        Text(state, tone),
        _percent(use),
        Meter(use, Tone.GOOD),
        Spark(history.core_use(device.index, core.core), 0.0, 1.0, Tone.GOOD),
        *(Text("") for _ in range(3)),
    )
    return Row(name, cells, (), name, f"{name}: {core}", device)


def _card_state(device: DeviceView) -> Text:
    if device.availability is Availability.CORDONED:
        return Text("cordoned", Tone.WARM)
    if device.availability is Availability.UNAVAILABLE:
        return Text(device.reason or "unavailable", Tone.BAD)
    held = sum(core.state is CoreState.OCCUPIED for core in device.cores)
    return Text(f"{held}/{len(device.cores)} cores held" if held else "free", Tone.PLAIN)


def _lease(lease: LeaseView, sample: Sample, name_of: NameOf) -> Row:
    now = sample.at
    owner = lease.owner
    state = f"{lease.state.value} ({lease.cause})" if lease.cause else lease.state.value
    files = ",".join(map(str, lease.device_files))
    use = sample.file_use(lease.device_files)
    ends = _LAST if lease.ends_at is None else lease.ends_at
    user, where = _user(owner, name_of), _where(owner)
    return Row(
        key=lease.id,
        cells=(
            Text(lease.id, Tone.TITLE),
            Text(files),
            Text(lease.state.value, Tone.PLAIN if lease.state is LeaseState.GRANTED else Tone.WARM),
            Text(user),
            Text(_tenant(lease.tenant, owner)),
            Text(str(lease.priority)),
            Text(_pid(owner)),
            Text(_NONE, Tone.DIM) if use is None else _percent(use),
            Text(span(now - lease.granted_at)),
            Text(_until(lease.ends_at, now), Tone.DIM if lease.ends_at is None else Tone.WARM),
            Text(where),
            Text(command(owner)),
        ),
        values=(
            lease.id,
            min(map(_place, lease.device_files), default=()),
            state,
            user,
            lease.tenant,
            lease.priority,
            owner.pid,
            -1.0 if use is None else use,
            now - lease.granted_at,
            ends,
            where,
            command(owner),
        ),
        words=" ".join((lease.id, files, state, user, where, _words(owner, lease.tenant))),
        detail=f"{lease.id}: {files}, {state}, {_whole_owner(owner, user)}",
        subject=lease,
    )


def _foreign(process: ProcessView) -> Row:
    file = str(process.device_file)
    pid = str(process.pid) if process.pid else _NONE
    text = process.command_line or _NONE
    shown = (
        *(_NONE, file, "without a lease", _NONE, "", _NONE),
        *(pid, _NONE, _NONE, _NONE, "", text),
    )
    tones = {2: Tone.BAD}
    values: tuple[Value, ...] = (
        *("", _place(process.device_file), "without a lease", "", "", 0),
        *(process.pid, -1.0, -1.0, _LAST, "", text),
    )
    return Row(
        key=f"{file} {pid}",
        cells=tuple(Text(cell, tones.get(at, Tone.PLAIN)) for at, cell in enumerate(shown)),
        values=values,
        words=f"{file} {pid} {text} without a lease",
        detail=f"pid {pid} holds {file} without a lease: {text}",
        subject=process,
    )


def _waiter(waiter: WaiterView, now: float, name_of: NameOf) -> Row:
    owner, user = waiter.owner, _user(waiter.owner, name_of)
    deadline = waiter.deadline
    return Row(
        key=f"{waiter.session} {waiter.since} {waiter.device_spec}",
        cells=(
            Text(str(waiter.position), Tone.TITLE),
            Text(waiter.device_spec),
            Text(user),
            Text(_tenant(waiter.tenant, owner)),
            Text(str(waiter.priority)),
            Text(_pid(owner)),
            Text(span(now - waiter.since)),
            Text(_until(deadline, now), Tone.DIM if deadline is None else Tone.WARM),
            Text(waiter.reason or _NONE),
            Text(command(owner)),
        ),
        values=(
            waiter.position,
            waiter.device_spec,
            user,
            waiter.tenant,
            waiter.priority,
            owner.pid,
            now - waiter.since,
            _LAST if deadline is None else deadline,
            waiter.reason,
            command(owner),
        ),
        words=" ".join(
            (waiter.device_spec, user, waiter.reason, _where(owner), _words(owner, waiter.tenant))
        ),
        detail=f"{waiter.device_spec}, waits for {waiter.reason or 'its turn'}: {_whole_owner(owner, user)}",
        subject=waiter,
    )


def _whole_owner(owner: OwnerView, user: str) -> str:
    where = _where(owner, whole=True)
    who = f"pid {owner.pid} of {user}" if owner.pid else f"{user} at {owner.remote}"
    return f"{who}{f' in {where}' if where and owner.pid else ''}: {command(owner)}"


def _where(owner: OwnerView, *, whole: bool = False) -> str:
    """Pod or container of a process, address of a remote client; nothing for a process of the host."""
    if (held := owner.container) is None:
        return owner.remote
    if held.pod_uid:
        return f"pod {held.pod_uid}"
    return f"{held.runtime} {held.id}" if whole else container(held.runtime, held.id)


def _user(owner: OwnerView, name_of: NameOf) -> str:
    if not owner.pid:
        return owner.subject or _NONE
    return name_of(owner.uid)


def _tenant(name: str, owner: OwnerView) -> str:
    """Nothing for one that no policy names: it is the user."""
    return "" if name == f"uid:{owner.uid}" else name


def _words(owner: OwnerView, tenant: str) -> str:
    return f"{_pid(owner)} {tenant} {owner.subject} {owner.command_line}"


def _place(file: DeviceFile) -> tuple[int, ...]:
    return file.npu, file.cores.first, file.cores.last


def _pid(owner: OwnerView) -> str:
    return str(owner.pid) if owner.pid else _NONE


def _until(moment: float | None, now: float) -> str:
    return _NONE if moment is None else span(moment - now)


def _percent(fraction: float) -> Text:
    return Text(f"{fraction:.0%}", Tone.DIM if fraction == 0 else Tone.PLAIN)


def _warmth(degrees: float | None) -> Tone:
    if degrees is None:
        return Tone.DIM
    return Tone.BAD if degrees >= _HOT else Tone.WARM if degrees >= _WARM else Tone.GOOD
