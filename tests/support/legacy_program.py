"""A program for the API before SDK 0.10, as its users wrote them; arguments: model, image.

It prints a line for each thing it does. It is typed, so that `mypy --strict` on it says something too.
"""

# ruff: noqa: T201, TC001 - users print, and import what they name

import sys

import numpy as np

from furiosa.runtime import errors, session
from furiosa.runtime.tensor import TensorArray


def blocking(model: str, image: str) -> None:
    with session.create(model, worker_num=1) as sess:
        sess.print_summary()
        desc = sess.input(0)
        inputs: TensorArray = sess.allocate_inputs()
        inputs[0] = np.load(image).reshape(desc.shape)
        outputs = sess.run(inputs)
        print("run:", outputs[0].numpy().argmax(), outputs.is_empty())
        name = sess.output(0).name
        assert name is not None
        again = sess.run_with([name], {str(desc.name): inputs[0]})
        print("run_with:", outputs == again)
        try:
            sess.run(np.zeros(3, np.float32))
        except errors.InvalidInput as error:
            print(error)


def queued(model: str, image: str) -> None:
    submitter, queue = session.create_async(model, input_queue_size=100, output_queue_size=100)
    for number in range(20):
        submitter.submit(np.load(image), context={"number": number})
    received = 0
    while received < 20:
        _, outputs = queue.recv(timeout=60_000)
        received += outputs[0].view().ndim == 2
    print("received:", received)
    try:
        queue.recv(timeout=1)
    except errors.QueueWaitTimeout as error:
        print(error)
    submitter.close()
    try:
        queue.recv()
    except errors.SessionTerminated as error:
        print(error)
    queue.close()


def refused(model: str) -> None:
    with session.create(model):
        try:
            session.create(model)
        except errors.DeviceBusy as error:
            print(error)
    try:
        session.create(b"no model", compiler_config={"allow_precision_error": True})
    except errors.CompilationFailed as error:
        print(error)
    except errors.NativeException as error:
        print("unexpected:", error)


if __name__ == "__main__":
    blocking(sys.argv[1], sys.argv[2])
    queued(sys.argv[1], sys.argv[2])
    refused(sys.argv[1])
