"""The kubelet's interfaces: being registered with it, and asking it which pods have what.

Source: kubernetes.io, "Device Plugins" and "Kubelet Device Manager API Versions"; measured on kubelet 1.32.
"""

from furiosa.kubelet.checkpoint import noted_ids
from furiosa.kubelet.pod_resources import ClaimedDevice, HeldDevices, PodResources, PodsDevices
from furiosa.kubelet.registration import (
    DEVICE_PLUGIN,
    DRA_PLUGIN,
    Plugin,
    keep_found,
    keep_registered,
)
from furiosa.kubelet.streams import Streams

__all__ = [
    "DEVICE_PLUGIN",
    "DRA_PLUGIN",
    "ClaimedDevice",
    "HeldDevices",
    "Plugin",
    "PodResources",
    "PodsDevices",
    "Streams",
    "keep_found",
    "keep_registered",
    "noted_ids",
]
