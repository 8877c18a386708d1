"""The part of a cluster's API server that a driver speaks to, as an ASGI application without a socket."""

import copy
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

GROUP = "resource.k8s.io"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass
class FakeApiServer:
    """`failures`: statuses to answer with, one call each, instead of doing it; `token`: what it takes."""

    versions: tuple[str, ...] = ("v1", "v1beta1")
    token: str = "secret"
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    revision: int = 0

    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(app=self)

    def allocate(self, uid: str, *devices: str, pool: str = "node-1", name: str = "c") -> None:
        """What the scheduler does."""
        results = [
            {"request": f"r{n}", "driver": "npu.furiosa.ai", "pool": pool, "device": device}
            for n, device in enumerate(devices)
        ]
        allocation = {"devices": {"results": results}}
        self.claims["default", name] = {
            "metadata": {"uid": uid, "name": name, "namespace": "default"},
            "status": {"allocation": allocation} if devices else {},
        }

    def specs(self) -> list[dict[str, Any]]:
        return [self.slices[name]["spec"] for name in sorted(self.slices)]

    def devices(self) -> list[str]:
        return sorted(d["name"] for spec in self.specs() for d in spec.get("devices", ()))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        self.calls.append((method, path))
        query = parse_qs(scope["query_string"].decode())
        status, answer = self._answer(method, path, query, headers, body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(
        self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes
    ) -> tuple[int, dict[str, Any]]:
        if self.failures:
            return self.failures[0], {"message": f"made to fail with {self.failures.pop(0)}"}
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "Unauthorized"}
        match path.strip("/").split("/"):
            case ["apis", group] if group == GROUP:
                return 200, {"versions": [{"version": version} for version in self.versions]}
            case ["api", "v1", "nodes", name]:
                return 200, {"metadata": {"name": name, "uid": f"uid of {name}"}}
            case ["apis", _, version, *rest] if version in self.versions:
                return self._of_group(method, version, rest, query, body)
        return 404, {"message": f"{path} not found"}

    def _of_group(
        self, method: str, version: str, rest: list[str], query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        match method, rest:
            case "GET", ["namespaces", namespace, "resourceclaims", name]:
                found = self.claims.get((namespace, name))
                return (200, found) if found else (404, {"message": f"claim {name} not found"})
            case "GET", ["resourceslices"]:
                (selector,) = query["fieldSelector"]
                wanted = dict(part.split("=") for part in selector.split(","))
                items = [
                    each
                    for each in self.slices.values()
                    if each["spec"]["nodeName"] == wanted["spec.nodeName"]
                    and each["spec"]["driver"] == wanted["spec.driver"]
                ]
                return 200, {"items": copy.deepcopy(items)}
            case "POST", ["resourceslices"]:
                made = json.loads(body)
                assert made["apiVersion"] == f"{GROUP}/{version}"
                return self._store(made, is_new=True)
            case "PUT", ["resourceslices", _]:
                return self._store(json.loads(body), is_new=False)
            case "DELETE", ["resourceslices", name]:
                gone = self.slices.pop(name, None)
                return (200, gone) if gone else (404, {"message": f"{name} not found"})
        return 405, {"message": "not allowed"}

    def _store(self, made: dict[str, Any], *, is_new: bool) -> tuple[int, dict[str, Any]]:
        name = made["metadata"]["name"]
        before = self.slices.get(name)
        if is_new == (before is not None):
            return (409 if is_new else 404), {"message": f"{name}: conflict"}
        if before is not None:
            seen = made["metadata"].get("resourceVersion")
            if seen != before["metadata"]["resourceVersion"]:
                return 409, {"message": f"{name} has been changed"}
        self.revision += 1
        made["metadata"]["resourceVersion"] = str(self.revision)
        self.slices[name] = made
        return 200, made
