"""Device trees: what the driver, or the virtual platform, tells of cards in <root>/dev and <root>/sys."""

from furiosa.sysfs.counters import BadCounters, CounterReading, Utilisation, increase, utilisation
from furiosa.sysfs.discovery import NOTHING, Card, Survey, discover, survey
from furiosa.sysfs.hwmon import Kind
from furiosa.sysfs.texts import collect
from furiosa.sysfs.tree import DeviceFault

__all__ = [
    "NOTHING",
    "BadCounters",
    "Card",
    "CounterReading",
    "DeviceFault",
    "Kind",
    "Survey",
    "Utilisation",
    "collect",
    "discover",
    "increase",
    "survey",
    "utilisation",
]
