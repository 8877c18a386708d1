"""Cards of this machine: which there are, what they say about themselves, and who has them open."""

from furiosa.broker.devices.counters import CounterReading, Utilisation, utilisation
from furiosa.broker.devices.discovery import Card, Survey, discover, survey
from furiosa.broker.devices.holders import Foreign, Holder, foreign
from furiosa.broker.devices.node import NodeFault, NodeHeld, open_node
from furiosa.broker.devices.sensors import Gauges, Sensors, read_counters, read_sensors

__all__ = [
    "Card",
    "CounterReading",
    "Foreign",
    "Gauges",
    "Holder",
    "NodeFault",
    "NodeHeld",
    "Sensors",
    "Survey",
    "Utilisation",
    "discover",
    "foreign",
    "open_node",
    "read_counters",
    "read_sensors",
    "survey",
    "utilisation",
]
