"""Clients in control groups such as container runtimes make them: who they are to a real broker."""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.views import Container, OwnerView
from support import systemd
from support.clients import Raised, Steered
from support.daemon import Daemon

Contain = Callable[[str], Steered]

RULES = """
[unmatched]
policy = "own-tenant"
[[tenant]]
name = "people"
match = [{ uid = 0 }]
[[tenant]]
name = "pods"
match = [{ pod-uid = "*" }]
max-cores = 1
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(2, embedded=False)
    (daemon.folder / "tenants").write_text(RULES)
    files = daemon.folder / "tenants", daemon.folder / "audit"
    daemon.set("--tenants", str(files[0]), "--audit-log", str(files[1]))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    return shared


@pytest.fixture
def contain(daemon: Daemon) -> Iterator[Contain]:
    """Starts a client in a group of this path, which must be new."""
    tree = systemd.cgroup()
    if os.geteuid() != 0 or tree is None or not os.access(tree, os.W_OK):
        pytest.skip("no control group (v2) may be made here")
    with contextlib.ExitStack() as stack:

        def contain(name: str) -> Steered:
            folder = tree / name
            try:
                folder.mkdir()
            except OSError as exc:
                pytest.skip(f"no control group (v2) may be made here: {exc}")
            stack.callback(folder.rmdir)
            client = stack.enter_context(Steered(daemon.environ))
            client.ask("connection.close()")
            client.ask(f"open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))")
            client.ask("connect()")
            return client

        yield contain


def owner_of(lease: str) -> tuple[str, OwnerView]:
    """The tenant, and the owner."""
    with Connection.open(client="test") as connection:
        (view,) = (view for view in connection.leases() if view.id == lease)
        return view.tenant, view.owner


def test_a_pod_is_recognised_and_is_the_tenant_that_the_file_says(
    daemon: Daemon, contain: Contain
) -> None:
    pod, container = str(uuid.uuid4()), os.urandom(32).hex()
    slice_ = f"kubepods-besteffort-pod{pod.replace('-', '_')}.slice"
    client = contain(f"{slice_}:cri-containerd:{container}")
    lease = client.ask("acquire('npu:0:0')")
    tenant, owner = owner_of(lease)
    assert tenant == "pods", "root's own rule is about people on the machine"
    assert (owner.pid, owner.container) == (client.pid, Container("containerd", container, pod))
    with pytest.raises(Raised, match="cores of the tenant pods is 2, the limit is 1"):
        client.ask("acquire('npu:0:1')")
    assert f"(pod {pod})" in daemon.furiosactl("leases").stdout
    records = map(json.loads, (daemon.folder / "audit").read_text().splitlines())
    (granted,) = (record for record in records if record.get("lease") == lease)
    assert granted["container"] == f"containerd:{container}"
    assert granted["pod"] == pod


def test_root_in_a_container_is_nobody_special(daemon: Daemon, contain: Contain) -> None:
    pod, container = str(uuid.uuid4()), os.urandom(32).hex()
    slice_ = f"kubepods-burstable-pod{pod.replace('-', '_')}.slice"
    client = contain(f"{slice_}:crio:{container}")
    with Steered(daemon.environ) as outside:
        assert outside.ask("connection.cordon(1)") is None
        lease = outside.ask("acquire('npu:0:1')")
        assert owner_of(lease)[0] == "people"
        for act in ("cordon(0)", "uncordon(1)", f"revoke({lease!r})", "reload_tenants()"):
            with pytest.raises(Raised, match="NotAllowed: tenant pods may not"):
                client.ask(f"connection.{act}")
        outside.ask("connection.uncordon(1)")
        with pytest.raises(Raised, match="NotLeaseOwner"):
            client.ask(f"connection.release({lease!r})")
