import gc
from collections.abc import Iterator

import pytest

import furiosa.runtime._async.claim
import furiosa.runtime._sync.claim
from support.fake_connection import AsyncFakeOpener, FakeNpu, FakeOpener
from support.queues import open_descriptors
from support.twins import TWINS, Twin, twin_of


@pytest.fixture(autouse=True)
def no_device_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FURIOSA_DEVICES", raising=False)
    monkeypatch.delenv("NPU_DEVNAME", raising=False)


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNpu]:
    """What both styles connect to. Whatever a test opens on it must be closed at its end."""
    before = open_descriptors()
    fake = FakeNpu()
    monkeypatch.setattr(furiosa.runtime._sync.io, "connect", FakeOpener(fake).open)
    monkeypatch.setattr(furiosa.runtime._async.io, "connect", AsyncFakeOpener(fake).open)
    yield fake
    fake.close()
    gc.collect()  # tracebacks of expected errors hold on to what they passed through
    left = {name for name in open_descriptors() - before if "memfd" in name or "eventfd" in name}
    assert not left


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, npu: FakeNpu) -> Iterator[Twin]:
    with twin_of(request.param) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is not there is given up at once."""
    for module in (furiosa.runtime._async.claim, furiosa.runtime._sync.claim):
        monkeypatch.setattr(module, "RESUME_SECONDS", 0.0)
