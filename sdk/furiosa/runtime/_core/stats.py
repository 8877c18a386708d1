"""What the runs of a runner came to."""

from dataclasses import dataclass

from furiosa.queuepair import Completion, CompletionStatus

_OK = CompletionStatus.OK


@dataclass(frozen=True, slots=True)
class Stats:
    """The runs of one runner since it was created.

    A run whose call was cancelled counts, too, once the device has finished it. Calls refused before
    anything was sent do not.
    """

    completed: int = 0
    failed: int = 0  # on the device, or lost with it
    in_flight: int = 0  # waiting for a device, or on one
    device_ns: int = 0  # the completed runs on their devices, altogether
    tensor_ns: int = 0  # of it, in tensor operations; the rest moved data

    def __add__(self, other: "Stats") -> "Stats":
        return Stats(
            self.completed + other.completed,
            self.failed + other.failed,
            self.in_flight + other.in_flight,
            self.device_ns + other.device_ns,
            self.tensor_ns + other.tensor_ns,
        )


class Tally:
    """Counts, from completions. Callers hold the runner's lock."""

    __slots__ = ("completed", "device_ns", "failed", "tensor_ns")

    def __init__(self) -> None:
        self.completed = self.failed = self.device_ns = self.tensor_ns = 0

    def count(self, completion: Completion) -> None:
        if completion.status is _OK:
            self.completed += 1
            self.device_ns += completion.task_ns
            self.tensor_ns += completion.tensor_ns
        else:
            self.failed += 1

    def stats(self, in_flight: int) -> Stats:
        return Stats(self.completed, self.failed, in_flight, self.device_ns, self.tensor_ns)
