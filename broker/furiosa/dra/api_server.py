"""What is asked of the API server: the slices of this node, and what claims were allocated.

Every call has a bound, and reads the token anew: the kubelet renews it.
"""

import logging
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx

from furiosa.dra.slices import DRIVER, GROUP, Slice

log = logging.getLogger(__name__)

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_SECONDS: Final = 10.0
VERSIONS: Final = ("v1", "v1beta2", "v1beta1")  # the first that the cluster serves


class ApiError(Exception):
    """The API server refuses, or does not answer; the text says which call and why. `status` is 0 when
    there is no answer.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Allocated:
    """A device that a claim was given: `request` is what the claim calls it."""

    request: str
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class Claim:
    uid: str
    devices: tuple[Allocated, ...]


class ApiServer:
    """`transport`: for tests. Close it."""

    def __init__(
        self,
        url: str,
        token: Path | None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._token = token
        self._client = httpx.AsyncClient(
            base_url=url, verify=verify, transport=transport, timeout=CALL_SECONDS
        )
        self._version = ""

    @classmethod
    def in_cluster(cls, environ: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> Self:
        """As a pod's service account. Raises: ApiError outside of a cluster."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise ApiError("KUBERNETES_SERVICE_HOST is not set: this is no pod of a cluster")
        where = f"[{host}]" if ":" in host else host
        try:
            verify = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except OSError as exc:
            raise ApiError(f"{account / 'ca.crt'}: {exc.strerror}") from None
        return cls(f"https://{where}:{port}", account / "token", verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def version(self) -> str:
        """Of the group, the one that is spoken. Raises: ApiError."""
        if not self._version:
            found = await self._call("GET", f"/apis/{GROUP}")
            served = {each["version"] for each in found.get("versions", ())}
            spoken = next((version for version in VERSIONS if version in served), None)
            if spoken is None:
                raise ApiError(f"the cluster serves {GROUP} as {sorted(served)}, not as {VERSIONS}")
            self._version = spoken
        return self._version

    async def node_uid(self, node: str) -> str:
        """Raises: ApiError."""
        found = await self._call("GET", f"/api/v1/nodes/{node}")
        return str(found["metadata"]["uid"])

    async def claim(self, namespace: str, name: str) -> Claim:
        """Raises: ApiError."""
        path = f"{await self._group()}/namespaces/{namespace}/resourceclaims/{name}"
        found = await self._call("GET", path)
        allocation = found.get("status", {}).get("allocation") or {}
        results = allocation.get("devices", {}).get("results", ())
        return Claim(
            str(found["metadata"]["uid"]),
            tuple(
                Allocated(each["request"], each["driver"], each["pool"], each["device"])
                for each in results
            ),
        )

    async def slices(self, node: str) -> Sequence[Mapping[str, Any]]:
        """Those of this driver on the node. Raises: ApiError."""
        selector = f"spec.nodeName={node},spec.driver={DRIVER}"
        found = await self._call(
            "GET", f"{await self._group()}/resourceslices", params={"fieldSelector": selector}
        )
        return list(found.get("items", ()))

    async def create_slice(self, name: str, owner: Mapping[str, Any], spec: Slice) -> None:
        """Raises: ApiError."""
        body = await self._slice({"name": name, "ownerReferences": [owner]}, spec)
        await self._call("POST", f"{await self._group()}/resourceslices", json=body)

    async def update_slice(self, before: Mapping[str, Any], spec: Slice) -> None:
        """Raises: ApiError; of status 409 when somebody else has changed it."""
        metadata = before["metadata"]
        path = f"{await self._group()}/resourceslices/{metadata['name']}"
        await self._call("PUT", path, json=await self._slice(metadata, spec))

    async def delete_slice(self, name: str) -> None:
        """No effect when there is none. Raises: ApiError."""
        try:
            await self._call("DELETE", f"{await self._group()}/resourceslices/{name}")
        except ApiError as exc:
            if exc.status != 404:
                raise

    async def _group(self) -> str:
        return f"/apis/{GROUP}/{await self.version()}"

    async def _slice(self, metadata: Mapping[str, Any], spec: Slice) -> Mapping[str, Any]:
        version = f"{GROUP}/{await self.version()}"
        return {"apiVersion": version, "kind": "ResourceSlice", "metadata": metadata, "spec": spec}

    async def _call(self, method: str, path: str, **rest: Any) -> Mapping[str, Any]:
        try:
            answer = await self._client.request(method, path, headers=self._headers(), **rest)
            if answer.is_success:
                found: Mapping[str, Any] = answer.json()
                return found
            text = str(answer.json().get("message", answer.text))
        except httpx.HTTPError as exc:
            text = f"{method} {path}: {str(exc) or type(exc).__name__}"
            raise ApiError(f"the API server does not answer: {text}") from None
        except ValueError:
            text = "no JSON"
        raise ApiError(f"{method} {path}: {answer.status_code}: {text}", answer.status_code)

    def _headers(self) -> Mapping[str, str]:
        if self._token is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token.read_text().strip()}"}
        except OSError as exc:
            raise ApiError(f"{self._token}: {exc.strerror}") from None
