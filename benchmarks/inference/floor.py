"""The least that a run on a PE can cost in Python: a bare queue pair to a process with the engine.

No broker, no lease, no checks of inputs, no other runs, nobody to be woken, nothing that may fail.
"""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import numpy.typing as npt

from benchmarks.inference.setting import Array
from furiosa.common.tensor import TensorSpec
from furiosa.enf import read
from furiosa.queuepair import (
    ClientQueue,
    Completion,
    CompletionStatus,
    Descriptors,
    Geometry,
    Submission,
    WorkerQueue,
    create,
    tensor_offsets,
)
from furiosa.vnpu.engine import Engine

END_SECONDS = 30
SERVE = "from benchmarks.inference import floor; floor.serve()"


@contextlib.contextmanager
def serving(enf: bytes, image: Array, cpus: frozenset[int]) -> Iterator[Callable[[], object]]:
    """What is yielded runs `image` once, for programs of one input and one output."""
    program = read(enf)
    (source,), (result,) = program.input_specs, program.output_specs
    _, result_at = tensor_offsets([source.nbytes])
    _, total = tensor_offsets([source.nbytes, result.nbytes])
    made = create(Geometry(2, total))
    ready, ready_fd = os.pipe()
    with tempfile.NamedTemporaryFile(suffix=".enf") as file:
        file.write(enf)
        file.flush()
        fds = (*made.as_tuple(), ready_fd)
        command = [sys.executable, "-c", SERVE, file.name, *map(str, fds)]
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        server = subprocess.Popen(command, pass_fds=fds)
        os.sched_setaffinity(0, before)
        os.close(ready_fd)
        os.read(ready, 1)
        os.close(ready)
    queue = ClientQueue.attach(made)
    given = _view(queue.arena, 0, source)
    answer = _view(queue.arena, result_at, result)
    poll = select.poll()
    poll.register(queue.completion_fd, select.POLLIN)
    numbers = count(1)

    def run() -> object:
        np.copyto(given, image)
        queue.submit(Submission(next(numbers), 0, 0, result_at))
        poll.poll()
        queue.reap()
        return answer.copy()

    try:
        yield run
    finally:
        server.kill()
        server.wait(END_SECONDS)
        queue.close()


def _view(arena: npt.NDArray[np.uint8], at: int, spec: TensorSpec) -> Array:
    return arena[at : at + spec.nbytes].view(spec.dtype.numpy).reshape(spec.shape)


def serve() -> None:
    """The other process: the path of an ENF, then descriptors: memory, two doorbells, a pipe."""
    path, *numbers = sys.argv[1:]
    memory, submissions, completions, ready = map(int, numbers)
    with open(path, "rb") as file:
        program = read(file.read())
    queue = WorkerQueue.attach(Descriptors(memory, submissions, completions))
    (source,), (result,) = program.input_specs, program.output_specs
    _, result_at = tensor_offsets([source.nbytes])
    places = [_view(queue.arena, 0, source)], [_view(queue.arena, result_at, result)]
    bound = Engine(program).bind(*places)
    bound.execute()
    poll = select.epoll()
    poll.register(queue.submission_fd, select.EPOLLIN)
    os.write(ready, b"1")
    while True:
        poll.poll()
        for submission in queue.take():
            bound.execute()
            queue.complete(Completion(submission.id, CompletionStatus.OK))
