"""Real cards of a machine on which no broker runs: what the device tree and /proc say, read only."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from furiosa.broker.devices import Sensors, foreign
from furiosa.broker.devices.look import UNSEEN, Looker, Progress
from furiosa.broker.inventory import processes, views
from furiosa.client.address import SYSTEM
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.views import DeviceView, Origin, ProcessView

if TYPE_CHECKING:
    from furiosa.sysfs import Card

START: Final = "start one with: systemctl start furiosa-brokerd"


class Direct:
    """Takes the place of a broker as far as it can. Without privileges only this user's own processes
    are seen, and the cores that they hold.
    """

    def __init__(self, root: Path) -> None:
        """There are cards under `root`. Says on stderr what this is. Raises: OSError when a folder cannot be
        listed.
        """
        if sys.stderr is not None:
            sys.stderr.write(
                f"furiosactl: no broker runs on this machine, so this is of /sys; {START}\n"
            )
        seen = Looker(root).look(UNSEEN, Progress())
        self._cards: tuple[Card, ...] = seen.cards
        self._sensors: dict[int, Sensors] = dict(seen.sensors)
        self._held = foreign(seen.holders, {})

    @property
    def origin(self) -> Origin:
        return self._cards[0].origin

    def devices(self) -> tuple[DeviceView, ...]:
        return views(self._cards, self._sensors, self._held)

    def processes(self) -> tuple[ProcessView, ...]:
        return processes((), self._held)

    def close(self) -> None:
        """There is nothing to close."""

    def __getattr__(self, name: str) -> NoReturn:
        """Raises: BrokerUnavailable for everything else that a broker does."""
        raise BrokerUnavailable(str(SYSTEM), f"none runs on this machine; {START}")
