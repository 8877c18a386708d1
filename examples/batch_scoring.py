"""Score many images, several in flight on each device.

python examples/batch_scoring.py
"""

import asyncio
import time

import numpy as np

import digits
from furiosa.runtime import create_runner

IN_FLIGHT = 8


async def main() -> None:
    images, labels = digits.images(), digits.labels()
    answers = np.empty(len(images), np.int64)
    async with create_runner(
        digits.int8_model(), device="warboy*2", worker_num=IN_FLIGHT
    ) as runner:

        async def score(number: int) -> None:
            (logits,) = await runner.run([images[number]])
            answers[number] = logits.argmax()

        start = time.perf_counter()
        await asyncio.gather(*(score(number) for number in range(len(images))))
        seconds = time.perf_counter() - start

    print(
        f"{(answers == labels).sum()} of {len(images)} right; {len(images) / seconds:.0f} images/s"
    )


if __name__ == "__main__":
    asyncio.run(main())
