"""Cards of this machine, as they are now: their sensors, and who has their files open."""

from furiosa.broker.devices.holders import Foreign, Holder, foreign
from furiosa.broker.devices.node import NodeFault, NodeHeld, open_node
from furiosa.broker.devices.sensors import Gauges, Sensors, read_counters, read_sensors

__all__ = [
    "Foreign",
    "Gauges",
    "Holder",
    "NodeFault",
    "NodeHeld",
    "Sensors",
    "foreign",
    "open_node",
    "read_counters",
    "read_sensors",
]
