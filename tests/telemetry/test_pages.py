from furiosa.common.errors import BrokerUnavailable, InternalError
from furiosa.telemetry.broker_link import BrokerLink
from furiosa.telemetry.pages import pages


class Broker(BrokerLink):
    """Answers at once."""

    def __init__(self, answer: bytes | str | Exception) -> None:
        self._answer = answer

    async def metrics(self, seconds: float) -> bytes:
        if isinstance(self._answer, Exception):
            raise self._answer
        assert isinstance(self._answer, bytes)
        return self._answer

    async def unready(self, seconds: float) -> str:
        if isinstance(self._answer, Exception):
            raise self._answer
        assert isinstance(self._answer, str)
        return self._answer


async def page(path: str, answer: bytes | str | Exception) -> tuple[int, str]:
    found = await pages(Broker(answer))[path]("")
    return found.status, found.content.decode()


async def test_a_broker_that_answers_is_healthy_even_when_it_is_not_ready() -> None:
    assert await page("/healthz", "it is shutting down") == (200, "ok\n")
    assert await page("/readyz", "it is shutting down") == (503, "it is shutting down\n")
    assert await page("/readyz", "") == (200, "ready\n")


async def test_a_broker_that_does_not_answer_is_neither() -> None:
    gone = BrokerUnavailable("x", "no answer within 1 s")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert await page(path, gone) == (503, "no broker at x: no answer within 1 s\n")


async def test_the_brokers_failures_are_told() -> None:
    status, text = await page("/metrics", InternalError("5f3a"))
    assert status == 503
    assert "5f3a" in text


async def test_metrics_are_the_brokers_numbers() -> None:
    status, text = await page("/metrics", b'[["x","gauge","X",[],[[[],1]]]]')
    assert (status, text.splitlines()[-1]) == (200, "x 1.0")
