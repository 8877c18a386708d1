from dataclasses import dataclass

from furiosa.broker.core_time import CoreTime
from furiosa.common.names import DeviceFile

PE0, FUSED, ALL = (DeviceFile.parse(name) for name in ("npu0pe0", "npu0pe0-1", "npu1"))
CORES = {PE0: (0,), FUSED: (0, 1), ALL: (0, 1)}


@dataclass(frozen=True)
class Ran:
    """A worker that was in programs for that long."""

    task_ns: int


def test_time_adds_up_over_readings_workers_and_files() -> None:
    time = CoreTime(CORES.__getitem__)
    time.note(PE0, None)
    time.note(PE0, Ran(1_000_000_000))
    time.note(PE0, Ran(1_500_000_000))
    time.note(PE0, Ran(200_000_000))  # another worker
    time.ended(PE0, Ran(300_000_000))
    time.ended(PE0, Ran(400_000_000))  # another lease, of a worker that ran for longer
    time.ended(FUSED, Ran(1_000_000_000))
    time.note(ALL, Ran(0))
    assert time.seconds() == {(0, 0): 3.2, (0, 1): 1.0, (1, 0): 0.0, (1, 1): 0.0}
