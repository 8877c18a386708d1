import pytest

from furiosa.broker.platform.perf_regs import perf_regs
from furiosa.sysfs import CounterReading


def test_there_are_29_registers_in_the_published_order() -> None:
    names = [line.split(": ")[0] for line in perf_regs(0, 0, 0).splitlines()]
    assert len(names) == 29
    assert names[:3] == ["ProgramCounter", "InstructionCount", "TensorExecutionCount"]
    assert names[9:12] == ["TaskExecutionTime", "TensorExecutionTime", "LastTensorExecutionTime"]
    assert names[-2:] == ["CycleCount", "CycleCountHigh"]


def test_values_are_hexadecimal() -> None:
    lines = perf_regs(0x1_0000_00FF, 0x10, 0xF).splitlines()
    assert lines[0] == "ProgramCounter: 0x0"
    assert lines[9] == "TaskExecutionTime: 0x10"
    assert lines[-2:] == ["CycleCount: 0xff", "CycleCountHigh: 0x1"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ((5, 4, 3), (5, 4, 3)),
        ((2**40 + 1, 2**32 + 7, 2**33 + 2), (2**40 + 1, 7, 2)),  # the last two wrap at 32 bits
        ((2**64 + 9, 0, 0), (9, 0, 0)),
    ],
)
def test_the_reader_understands_the_writer(
    written: tuple[int, int, int], read: tuple[int, int, int]
) -> None:
    assert CounterReading.parse(perf_regs(*written), 1) == CounterReading(1, *read)
