"""Kubelets that are silent, break off, or come back: nothing hangs, and nothing waits for what is over."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.kubelet import PodResources, keep_registered, pod_resources, registration
from furiosa.kubelet.pod_resources import PodResourcesUnavailable
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start
from support.kubelet.tiny_plugin import TinyPlugin

THING = "example.com/thing"


@contextlib.contextmanager
def silence(path: Path) -> Iterator[None]:
    """Who listens there takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield


async def test_it_is_said_that_a_kubelet_is_waited_for(
    short_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kubelet = FakeKubelet(short_path)
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    text = f"there is no kubelet at {kubelet.socket} yet"
    await kubelet.until(lambda: text in caplog.text)


async def test_a_kubelet_that_does_not_answer_is_given_up(
    short_path: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration, "REGISTER_SECONDS", 0.1)
    kubelet = FakeKubelet(short_path)
    with silence(kubelet.socket):
        start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
        await kubelet.until(lambda: "DEADLINE_EXCEEDED" in caplog.text)
    monkeypatch.setattr(registration, "REGISTER_SECONDS", 15.0)
    async with kubelet:
        await kubelet.until(lambda: kubelet.allocatable(THING) == 2)


async def test_a_kubelet_that_has_just_started_need_not_wait_for_what_one_before_it_did(
    short_path: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration, "RETRY_SECONDS", (0.1, 0.1, 0.1, 3600.0))
    kubelet = FakeKubelet(short_path)
    kubelet.socket.touch()
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    text = "is not registered with the kubelet: UNAVAILABLE"
    await kubelet.until(lambda: caplog.text.count(text) == 4)
    async with kubelet:
        await kubelet.until(lambda: kubelet.allocatable(THING) == 2)


async def test_a_stream_that_the_kubelet_closes_leads_to_a_new_registration(
    kubelet: FakeKubelet, start: Start
) -> None:
    start(keep_registered(TinyPlugin().plugin(), kubelet.device_plugins, lambda _: None))
    await kubelet.until(lambda: kubelet.allocatable(THING) == 2)
    endpoint = kubelet.manager.endpoints[THING]
    await endpoint.close()
    await kubelet.until(lambda: kubelet.allocatable(THING) == 2)
    assert kubelet.manager.endpoints[THING].path != endpoint.path


async def test_a_list_that_does_not_come_is_given_up(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_resources, "CALL_SECONDS", 0.1)
    path = short_path / "kubelet.sock"
    with silence(path):
        async with PodResources(path) as pods:
            with pytest.raises(PodResourcesUnavailable, match=f"{path}: DEADLINE_EXCEEDED"):
                await pods.list()
