"""The blocking API: lease cores, load a model, classify an image.

python examples/quickstart_sync.py
"""

import digits
from furiosa.runtime.sync import create_runner


def main() -> None:
    with create_runner(digits.int8_model(), device="warboy(2)*1") as runner:
        print(runner.model.summary())
        (logits,) = runner.run([digits.images()[0]])
    print(f"The NPU says {logits.argmax()}, the label says {digits.labels()[0]}.")


if __name__ == "__main__":
    main()
