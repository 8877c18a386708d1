"""Virtual cards: a device tree in the published formats, for machines without the hardware."""

from furiosa.broker.platform.platform import Measured, VirtualPlatform
from furiosa.broker.platform.ticker import Ticker

__all__ = ["Measured", "Ticker", "VirtualPlatform"]
