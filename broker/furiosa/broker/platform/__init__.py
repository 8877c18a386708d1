"""Virtual cards: a device tree in the published formats, for machines without the hardware."""

from furiosa.broker.platform.faults import Faults
from furiosa.broker.platform.platform import Failed, Measured, VirtualPlatform
from furiosa.broker.platform.ticker import Ticker

__all__ = ["Failed", "Faults", "Measured", "Ticker", "VirtualPlatform"]
