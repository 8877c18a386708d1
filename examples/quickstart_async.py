"""The asynchronous API: ten images at once, in flight together on the same cores.

python examples/quickstart_async.py
"""

import asyncio

import digits
from furiosa.runtime import create_runner


async def main() -> None:
    async with create_runner(digits.int8_model(), device="warboy(2)*1") as runner:
        results = await asyncio.gather(*(runner.run([image]) for image in digits.images()[:10]))
    print("The NPU says    ", *(logits.argmax() for (logits,) in results))
    print("the labels say  ", *digits.labels()[:10])


if __name__ == "__main__":
    asyncio.run(main())
