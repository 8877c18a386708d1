"""Virtual cards: a device tree in the published formats, for machines without the hardware."""

from furiosa.broker.platform.platform import Measured, VirtualPlatform

__all__ = ["Measured", "VirtualPlatform"]
