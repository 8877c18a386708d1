"""What the broker said at one moment."""

from dataclasses import dataclass, field

from furiosa.common.names import DeviceFile
from furiosa.common.views import DeviceView, LeaseOverview, ProcessView, UtilizationView


@dataclass(frozen=True, slots=True)
class Sample:
    """`at` is seconds since the epoch. `uses` has no entry for a device file that nobody holds.

    Not `is_measured`: no window has ended since the sample before.
    """

    at: float
    devices: tuple[DeviceView, ...] = ()
    overview: LeaseOverview = field(default_factory=lambda: LeaseOverview((), (), 0))
    processes: tuple[ProcessView, ...] = ()
    uses: tuple[UtilizationView, ...] = ()
    is_measured: bool = True

    def core_use(self, npu: int, core: int) -> float:
        """Share of the window in which the core was used, through whichever file: 0..1."""
        fractions = (
            use.npu_fraction
            for use in self.uses
            if use.device_file.npu == npu and core in use.device_file.cores
        )
        return min(1.0, max(fractions, default=0.0))

    def card_use(self, device: DeviceView) -> float:
        """Mean of its cores."""
        cores = [self.core_use(device.index, core.core) for core in device.cores]
        return sum(cores) / len(cores) if cores else 0.0

    def file_use(self, files: tuple[DeviceFile, ...]) -> float | None:
        """Mean of the files; None: the window knows none of them."""
        known = [use.npu_fraction for use in self.uses if use.device_file in files]
        return min(1.0, sum(known) / len(known)) if known else None
