"""The faults that virtual cards suffer from at one moment, and whom they concern. PURE."""

from collections.abc import Iterator
from dataclasses import dataclass

from furiosa.common.faults import Dead, FaultView, Hot
from furiosa.common.names import DeviceFile


@dataclass(frozen=True, slots=True)
class Faults:
    """By device file and kind, of which there is one at most."""

    standing: tuple[FaultView, ...] = ()

    def with_(self, view: FaultView) -> "Faults":
        """It replaces one of its kind on the same file."""
        others = (other for other in self.standing if _key(other) != _key(view))
        return Faults(tuple(sorted((*others, view), key=_key)))

    def without(self, *views: FaultView) -> "Faults":
        return Faults(tuple(view for view in self.standing if view not in views))

    def of_card(self, npu: int | None) -> tuple[FaultView, ...]:
        """None: of all cards."""
        return tuple(view for view in self.standing if npu in (None, view.device_file.npu))

    def on(self, file: DeviceFile) -> Iterator[FaultView]:
        """Those that concern whoever uses `file`: on any of its cores."""
        return (view for view in self.standing if view.device_file.overlaps(file))

    def is_alive(self, npu: int) -> bool:
        return not any(isinstance(view.fault, Dead) for view in self.of_card(npu))

    def celsius(self, npu: int) -> int | None:
        """What the warmest place is made to be; None: nothing."""
        for view in self.of_card(npu):
            if isinstance(view.fault, Hot):
                return view.fault.celsius
        return None


def _key(view: FaultView) -> tuple[tuple[int, int, int], str]:
    return view.device_file.sort_key, view.fault.name
