"""One look at everything: which cards there are, what they say, who has their files open.

Blocking from beginning to end, for a thread of its own. A read of sysfs may hang in a driver for ever,
so a look tells what it is at, and leaves alone what an earlier one is still stuck in.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from furiosa.broker.devices.holders import Holder, Nodes, holders
from furiosa.broker.devices.sensors import Gauges, Sensors
from furiosa.sysfs.discovery import NOTHING, Card, Survey, survey


class Progress:
    """Where a look is. Written by its thread, read by the loop."""

    def __init__(self, avoid: Set[str] = frozenset()) -> None:
        self.avoid = avoid
        self.at = "its beginning"
        self.steps = 0

    def enter(self, subject: str) -> bool:
        """False: somebody is stuck there."""
        if subject in self.avoid:
            return False
        self.at = subject
        self.steps += 1
        return True


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found."""

    survey: Survey
    nodes: Nodes
    sensors: Mapping[int, Sensors]  # by card; a card that could not be read is left out
    holders: tuple[Holder, ...]

    @property
    def cards(self) -> tuple[Card, ...]:
        return self.survey.cards


UNSEEN = Sight(NOTHING, Nodes(), {}, ())


class Looker:
    """`skip`: the pids of the broker's own processes, asked for at each look."""

    def __init__(self, root: Path, skip: Callable[[], Set[int]] = frozenset) -> None:
        self._root = root
        self._skip = skip
        self._gauges = Gauges(root)

    def look(self, before: Sight, progress: Progress) -> Sight:
        """Changes nothing but what it remembers of where sensors are.

        Raises: OSError when the broker is short of something, or a folder is there that it cannot list.
        """
        found = survey(self._root, before.survey, enter=progress.enter)
        nodes = before.nodes if found is before.survey else Nodes.of(self._root, found.cards)
        sensors = {
            card.index: self._gauges.read(card)
            for card in found.cards
            if progress.enter(f"npu{card.index}")
        }
        who = holders(nodes, skip=self._skip(), enter=progress.enter)
        # nobody can ask them, so they have not let go
        stuck = (each for each in before.holders if f"pid {each.pid}" in progress.avoid)
        return Sight(found, nodes, sensors, (*who, *stuck))
