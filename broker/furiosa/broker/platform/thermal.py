"""How warm a virtual card is and what it draws. PURE.

Power follows the load at once; the temperature follows the power like one body that loses heat to its
surroundings: each second it covers the same share of what is left to the temperature at which this load
would hold it. No random numbers: the same load gives the same curve.

The figures are ours, of the order of a published sample (about 1 W idle) and of the data sheet
(40 W and more under load).
"""

import math
from dataclasses import dataclass
from typing import Final

IDLE_CELSIUS: Final = 40.0
FULL_CELSIUS: Final = 65.0
IDLE_WATTS: Final = 1.0
FULL_WATTS: Final = 40.0
ARRIVED_CELSIUS: Final = 1e-9  # a card that is nearer to where it is going to has got there
TIME_CONSTANT_SECONDS: Final = 30.0  # after this long, 63 % of the way


@dataclass(frozen=True, slots=True)
class Climate:
    """Temperature of the warmest spot and power of the whole card."""

    celsius: float = IDLE_CELSIUS
    watts: float = IDLE_WATTS


def step(climate: Climate, load: float, seconds: float) -> Climate:
    """The climate after `seconds` (>= 0) under `load`, a fraction of the whole card, 0 to 1."""
    load = min(max(load, 0.0), 1.0)
    goal = IDLE_CELSIUS + load * (FULL_CELSIUS - IDLE_CELSIUS)
    left = math.exp(-seconds / TIME_CONSTANT_SECONDS)
    celsius = goal + (climate.celsius - goal) * left
    return Climate(
        celsius=goal if abs(celsius - goal) < ARRIVED_CELSIUS else celsius,
        watts=IDLE_WATTS + load * (FULL_WATTS - IDLE_WATTS),
    )
