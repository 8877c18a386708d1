"""Two programs share a card, a core each; a third one learns who has the core that it wants.

python examples/two_tenants.py
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

import digits
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.sync import create_runner

CORES = ("npu0pe0", "npu0pe1")


def main() -> None:
    model = digits.int8_model()
    tenants = [
        subprocess.Popen(
            [sys.executable, __file__, core, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for core in CORES
    ]
    for process in tenants:
        assert process.stdout is not None
        process.stdout.readline()  # it has its core

    subprocess.run([Path(sys.executable).parent / "furiosactl", "ps"], check=True)
    try:
        create_runner(model, device=CORES[0])
    except FuriosaRuntimeError as error:
        print(f"{type(error).__name__}: {error}")

    for process in tenants:
        assert process.stdin is not None
        process.stdin.close()  # both classify at the same time
    for process in tenants:
        assert process.stdout is not None
        print(process.stdout.read(), end="")
        process.wait()

    with create_runner(model, device=CORES[0]):
        print(f"{CORES[0]} is free again")


def tenant(core: str, model: str) -> None:
    """A process of its own: hold a core until told to classify on it."""
    with create_runner(model, device=core) as runner:
        print("ready", flush=True)
        sys.stdin.read()
        answers = [runner.run([image])[0].argmax() for image in digits.images()]
    right = np.equal(answers, digits.labels()).sum()
    print(f"{core}: {right} of {len(answers)} right")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        tenant(*sys.argv[1:])
