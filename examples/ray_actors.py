"""Ray spreads work over the NPU cores of a cluster: each actor leases one from the broker of its node.

    pip install ray
    python examples/ray_actors.py --actors 2

Ray counts cores as a custom resource, `npu_core`, so it starts no more actors on a node than that has cores
for. Which core it is, and that nobody else has it, Ray or not, is the broker's: an actor that dies gives its
core back at once.

Without `--address` this starts a Ray of its own, with the cores of this machine. On a cluster say what a
node has when Ray is started on it, `ray start --resources='{"npu_core": 2}' ...`, and give `--address auto`.
"""

import argparse
import os

import numpy as np
import numpy.typing as npt
import ray

import digits
from furiosa.device import sync as devices
from furiosa.runtime.sync import Runtime

CORE = "npu_core"
BATCH = 50


class Classifier:
    """Has a core for as long as it lives."""

    def __init__(self, model: bytes) -> None:
        self._runtime = Runtime("warboy(1)*1", wait=60)
        self._runner = self._runtime.create_runner(model)

    def place(self) -> str:
        return f"process {os.getpid()} on {', '.join(self._runtime.devices)}"

    def classify(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return np.array([self._runner.run([image])[0].argmax() for image in images])


Actor = ray.remote(num_cpus=0, resources={CORE: 1})(Classifier)


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify digits on NPU cores, by Ray.")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--address", help="of a Ray that runs, or auto")
    arguments = parser.parse_args()
    if arguments.address:
        ray.init(arguments.address)
    else:
        cores = sum(device.core_num() for device in devices.list_devices())
        ray.init(resources={CORE: cores}, include_dashboard=False)
    model = ray.put(digits.int8_model().read_bytes())
    actors = [Actor.remote(model) for _ in range(arguments.actors)]
    for place in ray.get([actor.place.remote() for actor in actors]):
        print("an actor is", place)
    images, labels = digits.images(), digits.labels()
    batches = [
        actors[number % len(actors)].classify.remote(images[start : start + BATCH])
        for number, start in enumerate(range(0, len(images), BATCH))
    ]
    found = np.concatenate(ray.get(batches))
    print(f"{(found == labels).mean():.2%} of {len(labels)} images are right")
    ray.shutdown()


if __name__ == "__main__":
    main()
