"""Text of a `perf_regs` file. PURE. Source: devices reference 8 (names, order, line format)."""

from typing import Final

CYCLES_PER_NS: Final = 1  # the counter clock of a virtual card: 1 GHz, so a cycle is a nanosecond

_NAMES: Final = (
    "ProgramCounter",
    "InstructionCount",
    "TensorExecutionCount",
    "BranchCount",
    "BranchTakenCount",
    "DramToSramCount",
    "SramToDramCount",
    "LastBranchTaken",
    "LastBranchTakenTarget",
    "TaskExecutionTime",
    "TensorExecutionTime",
    "LastTensorExecutionTime",
    "WaitTag",
    "SendSubmissionTail",
    "SendCompletionHead",
    "RecvSubmissionTail",
    "RecvCompletionHead",
    "DataMemoryControllerTotalDramToSramIssueCount",
    "DataMemoryControllerTotalSramToDramIssueCount",
    "DataMemoryControllerTotalDramToSramCompleteCount",
    "DataMemoryControllerTotalSramToDramCompleteCount",
    "DataMemoryControllerTotalDramToSramLatency",
    "DataMemoryControllerTotalSramToDramLatency",
    "DataMemoryControllerLastDramToSramLatency",
    "DataMemoryControllerLastSramToDramLatency",
    "LoadStoreSubmissionTail",
    "LoadStoreSubmissionHead",
    "CycleCount",
    "CycleCountHigh",
)
_WORD: Final = (1 << 32) - 1


def perf_regs(cycle: int, task: int, tensor: int) -> str:
    """The file for three counters in cycles, of any size; registers nobody measures read 0."""
    values = {
        "TaskExecutionTime": task,
        "TensorExecutionTime": tensor,
        "CycleCount": cycle,
        "CycleCountHigh": cycle >> 32,
    }
    return "".join(f"{name}: {values.get(name, 0) & _WORD:#x}\n" for name in _NAMES)
