"""What a key may change: the question before it, and the call to the broker."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from furiosa.cli.broker import Broker
from furiosa.cli.monitor.rows import command, holders
from furiosa.cli.monitor.sample import Sample
from furiosa.cli.render.table import printable
from furiosa.cli.render.times import span
from furiosa.common.views import DeviceView, LeaseView


@dataclass(frozen=True, slots=True)
class Act:
    """`question` is empty where nobody loses anything. `do` returns the sentence that says what was done."""

    title: str
    question: str
    do: Callable[[Broker], str]


def drain(device: DeviceView, sample: Sample) -> Act:
    held = holders(sample, device.index)
    lost = "".join(f"\n  {_story(lease)}" for lease in held)
    what = f"and these leases are taken away, after the broker's grace:\n{lost}" if held else (
        "and nobody holds any of it now."
    )  # fmt: skip

    def do(broker: Broker) -> str:
        revoked = broker.drain(device.index)
        return f"{device.name} is drained; {revoked} lease{'' if revoked == 1 else 's'} revoked"

    question = f"Nothing of {device.name} will be granted any more until u ends it, {what}"
    return Act(f"Drain {device.name}?", question, do)


def undrain(device: DeviceView) -> Act:
    def do(broker: Broker) -> str:
        broker.uncordon(device.index)
        return f"{device.name} is no longer cordoned"

    return Act(f"Undrain {device.name}", "", do)


def revoke(lease: LeaseView) -> Act:
    def do(broker: Broker) -> str:
        left = broker.revoke(lease.id)
        ends = "" if left.ends_at is None else f"; it ends in {span(left.ends_at - time.time())}"
        return f"lease {left.id} is {left.state.value}{ends}"

    question = (
        "Its owner is told, and may use it until the broker's grace is over; then its work is stopped:"
        f"\n\n  {_story(lease)}"
    )
    return Act(f"Revoke lease {lease.id}?", question, do)


def _story(lease: LeaseView) -> str:
    files = ", ".join(map(str, lease.device_files))
    owner = lease.owner
    who = f"pid {owner.pid}" if owner.pid else owner.remote
    return f"{lease.id}  {files}  {who}  {printable(command(owner))}"
