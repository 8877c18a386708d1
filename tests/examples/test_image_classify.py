"""The web service under uvicorn, asked over HTTP."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from support import digits
from support.web_service import Service


@pytest.fixture(scope="module")
def service(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(environ, tmp_path_factory.mktemp("s"))
    yield made
    made.stop()


def png(number: int, size: tuple[int, int] = (28, 28)) -> bytes:
    pixels = (digits.held_out_images()[number, 0, 0] * 255).round().astype("uint8")
    encoded = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(encoded, "PNG")
    return encoded.getvalue()


def test_a_posted_picture_is_answered_with_its_digit(service: Service) -> None:
    answers = [service.http.post("/classify", content=png(n)).json() for n in range(100)]
    right = [
        a["digit"] == label for a, label in zip(answers, digits.held_out_labels(), strict=False)
    ]
    assert sum(right) >= 98
    assert all(0.1 <= answer["probability"] <= 1 for answer in answers)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"seven", 415, "not a picture"),
        (png(0)[:100], 415, "not a picture"),
        (png(0, (29, 28)), 422, "expected 28 x 28 pixels, found (29, 28)"),
        (bytes((1 << 20) + 1), 413, "a picture may have 1,048,576 bytes"),
    ],
    ids=["text", "half", "size", "long"],
)
def test_what_is_no_picture_of_a_digit_is_refused(
    service: Service, content: bytes, status: int, said: str
) -> None:
    answer = service.http.post("/classify", content=content)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
