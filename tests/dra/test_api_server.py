"""Calls of the API server: what they mean, and what is said when they fail."""

import ssl
from pathlib import Path

import httpx
import pytest

from furiosa.dra.api_server import ApiError, ApiServer
from support.apiserver import FakeApiServer


def client(fake: FakeApiServer, tmp_path: Path) -> ApiServer:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return ApiServer("http://cluster", token, transport=fake.transport())


@pytest.mark.parametrize(
    ("served", "spoken"),
    [(("v1", "v1beta1"), "v1"), (("v1beta1", "v1beta2"), "v1beta2"), (("v1beta1",), "v1beta1")],
)
async def test_the_newest_known_version_is_spoken(
    tmp_path: Path, served: tuple[str, ...], spoken: str
) -> None:
    async with client(FakeApiServer(versions=served), tmp_path) as server:
        assert await server.version() == spoken


async def test_a_cluster_with_other_versions_only_is_named(tmp_path: Path) -> None:
    async with client(FakeApiServer(versions=("v9",)), tmp_path) as server:
        with pytest.raises(ApiError, match=r"serves resource.k8s.io as \['v9'\]"):
            await server.version()


async def test_a_refusal_is_told_with_its_status(tmp_path: Path) -> None:
    fake = FakeApiServer()
    async with client(fake, tmp_path) as server:
        (tmp_path / "token").write_text("old")
        with pytest.raises(ApiError, match=r"401: Unauthorized") as caught:
            await server.version()
        assert caught.value.status == 401
        (tmp_path / "token").write_text("secret")  # it is read again
        assert await server.version() == "v1"
        fake.failures = [500]
        with pytest.raises(ApiError, match=r"500: made to fail"):
            await server.slices("node-1")


async def test_no_answer_is_told(tmp_path: Path) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("")

    async with ApiServer("http://c", None, transport=httpx.MockTransport(broken)) as server:
        with pytest.raises(
            ApiError, match=r"does not answer: GET /apis/.*: ConnectTimeout"
        ) as caught:
            await server.version()
        assert caught.value.status == 0

    odd = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    async with ApiServer("http://c", None, transport=odd) as server:
        with pytest.raises(ApiError, match=r"no JSON"):
            await server.version()


async def test_a_claim_tells_what_it_was_given(tmp_path: Path) -> None:
    fake = FakeApiServer()
    fake.allocate("u1", "npu0pe0", "npu0pe1")
    fake.allocate("u2", name="waiting")
    async with client(fake, tmp_path) as server:
        found = await server.claim("default", "c")
        assert [(each.request, each.device) for each in found.devices] == [
            ("r0", "npu0pe0"),
            ("r1", "npu0pe1"),
        ]
        assert (await server.claim("default", "waiting")).devices == ()
        with pytest.raises(ApiError, match=r"404: claim gone not found"):
            await server.claim("default", "gone")


def test_outside_of_a_cluster_it_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"KUBERNETES_SERVICE_HOST is not set"):
        ApiServer.in_cluster({})
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "6443"}
    with pytest.raises(ApiError, match=r"ca.crt: No such file"):
        ApiServer.in_cluster(environ, tmp_path)


def test_in_a_cluster_its_own_authority_alone_counts(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises((ApiError, ssl.SSLError)):
        ApiServer.in_cluster(environ, tmp_path)
