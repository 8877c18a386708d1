"""Records of the two rings: fixed width, little endian, 64 bytes each.

Record number n of a ring lies in slot n modulo depth and carries n as its sequence, so that a record
written to the wrong slot, or not written at all, shows at once.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from furiosa.queuepair.layout import RECORD_BYTES

# Tuples, not dataclasses: four fields cost 0.3 us to build instead of 0.9, and they unpack into struct.


class Submission(NamedTuple):
    """Run `program` once. Offsets are bytes into the arena, multiples of 64.

    A program's inputs lie at `input_offset` and its outputs at `output_offset`, each laid out by
    `arena.tensor_offsets` over the sizes in program order.
    """

    id: int  # u64, chosen by the client, unique among its runs in flight
    program: int  # u32
    input_offset: int
    output_offset: int


class CompletionStatus(IntEnum):
    """Numbers are part of the protocol: add, never renumber."""

    OK = 0
    UNKNOWN_PROGRAM = 1
    BAD_RECORD = 2  # misaligned or outside the arena
    EXECUTION_FAILED = 3  # the worker's log has the reason
    DMA_ERROR = 4  # the inputs did not reach the card; the same run may succeed


class Completion(NamedTuple):
    """The end of one run. Outputs are valid only when `status` is OK. Times are nanoseconds."""

    id: int
    status: CompletionStatus
    task_ns: int = 0  # the whole run on the device
    tensor_ns: int = 0  # of it, time in tensor operations; the rest moved data
    started_ns: int = 0  # CLOCK_MONOTONIC, which all processes of a machine share


SUBMISSION: Final = struct.Struct("<QQIxxxxQQ24x")  # sequence, id, program, offsets
COMPLETION: Final = struct.Struct("<QQIxxxxQQQ16x")  # sequence, id, status, times
STATUSES: Final = {int(status): status for status in CompletionStatus}

assert SUBMISSION.size == COMPLETION.size == RECORD_BYTES
