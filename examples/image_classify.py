"""A web service that says which digit a picture shows.

    cd examples
    uvicorn image_classify:app
    python -c 'import digits; digits.picture(0).save("/tmp/digit.png")'
    curl --data-binary @/tmp/digit.png http://127.0.0.1:8000/classify

The runner is made when the service starts and closed when it ends; in between `furiosactl ps` shows which
process has the cores. Requests in flight at once share them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, HTTPException, Request
from PIL import Image, UnidentifiedImageError

import digits
from furiosa.runtime import Runner, create_runner

MAX_BYTES = 1 << 20
SIZE = (28, 28)


class State(TypedDict):
    runner: Runner


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    async with create_runner(digits.int8_model(), device="warboy(2)*1", worker_num=4) as runner:
        yield {"runner": runner}


app = FastAPI(title="Handwritten digits", lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request) -> dict[str, int | float]:
    """The digit on the picture in the body of the request, and how probable it is."""
    runner: Runner = request.state.runner
    (logits,) = await runner.run([as_input(await body(request))])
    probabilities = np.exp(logits[0] - logits.max())
    digit = int(logits.argmax())
    return {"digit": digit, "probability": float(probabilities[digit] / probabilities.sum())}


async def body(request: Request) -> bytes:
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_BYTES:
            raise HTTPException(413, f"a picture may have {MAX_BYTES:,} bytes")
    return bytes(read)


def as_input(encoded: bytes) -> npt.NDArray[np.float32]:
    """A PNG, or another format that Pillow reads, to [1, 1, 28, 28] of 0..1."""
    try:
        with Image.open(BytesIO(encoded)) as picture:
            if picture.size != SIZE:  # before anything is decoded
                raise HTTPException(422, f"expected 28 x 28 pixels, found {picture.size}")
            pixels = np.asarray(picture.convert("L"), np.float32)
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(415, f"not a picture: {error}") from error
    return (pixels / np.float32(255)).reshape(1, 1, 28, 28)
