"""Two programs share a card, a core each; a third one learns who has the core that it wants.

python examples/two_tenants.py
"""

import multiprocessing
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import digits
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.sync import create_runner

CORES = ("npu0pe0", "npu0pe1")


def tenant(core: str, model: Path, pipe: Connection) -> None:
    """A process of its own: hold a core, classify on it, leave when told to."""
    with create_runner(model, device=core) as runner:
        pipe.send("ready")
        pipe.recv()
        answers = [runner.run([image])[0].argmax() for image in digits.images()]
        pipe.send(int(np.equal(answers, digits.labels()).sum()))


def main() -> None:
    model = digits.int8_model()
    # a forked child would share its parent's connection to the broker: start anew
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for core in CORES:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=tenant, args=(core, model, theirs)))
        pipes.append(ours)
        processes[-1].start()
        theirs.close()  # so that its end is noticed
    for pipe in pipes:
        pipe.recv()

    subprocess.run([Path(sys.executable).parent / "furiosactl", "ps"], check=True)
    try:
        create_runner(model, device=CORES[0])
    except FuriosaRuntimeError as error:
        print(f"{type(error).__name__}: {error}")

    for pipe in pipes:
        pipe.send("go")  # both classify at the same time
    for core, pipe in zip(CORES, pipes, strict=True):
        print(f"{core}: {pipe.recv()} of {len(digits.labels())} right")
    for process in processes:
        process.join()

    with create_runner(model, device=CORES[0]):
        print(f"{CORES[0]} is free again")


if __name__ == "__main__":
    main()
