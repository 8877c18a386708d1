"""Queue pairs: shared memory and two doorbells between a client and the worker that owns its core.

`layout` makes and checks the memory, `ring` has the records, `queue` the two ends, `arena` the places
of tensors, `doorbell` the synchronisation and the reason why it is enough.
"""

from furiosa.queuepair.arena import Slots, tensor_offsets
from furiosa.queuepair.layout import BrokenQueue, Descriptors, Geometry, create
from furiosa.queuepair.queue import ClientQueue, QueueFull, WorkerQueue
from furiosa.queuepair.ring import Completion, CompletionStatus, Submission

__all__ = [
    "BrokenQueue",
    "ClientQueue",
    "Completion",
    "CompletionStatus",
    "Descriptors",
    "Geometry",
    "QueueFull",
    "Slots",
    "Submission",
    "WorkerQueue",
    "create",
    "tensor_offsets",
]
