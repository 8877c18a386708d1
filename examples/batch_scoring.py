"""Score many images through a queue: what is fed and what comes out are two tasks.

python examples/batch_scoring.py
"""

import asyncio
import time

import numpy as np

import digits
from furiosa.runtime import Submitter, create_queue

IN_FLIGHT = 8


async def main() -> None:
    images, labels = digits.images(), digits.labels()
    answers = np.empty(len(images), np.int64)

    async def feed(submitter: Submitter) -> None:
        for number, image in enumerate(images):
            await submitter.submit([image], context=number)
        await submitter.close()  # the receiver ends when it has everything

    async with create_queue(digits.int8_model(), device="warboy*2", worker_num=IN_FLIGHT) as (
        submitter,
        receiver,
    ):
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(feed(submitter))
            async for number, (logits,) in receiver:  # in any order
                answers[number] = logits.argmax()
        seconds = time.perf_counter() - start

    print(
        f"{(answers == labels).sum()} of {len(images)} right; {len(images) / seconds:.0f} images/s"
    )


if __name__ == "__main__":
    asyncio.run(main())
