"""Cards of this machine: which there are and what they say about themselves."""

from furiosa.broker.devices.counters import CounterReading, Utilisation, utilisation
from furiosa.broker.devices.discovery import Card, discover
from furiosa.broker.devices.sensors import Sensors, read_counters, read_sensors

__all__ = [
    "Card",
    "CounterReading",
    "Sensors",
    "Utilisation",
    "discover",
    "read_counters",
    "read_sensors",
    "utilisation",
]
