"""What an administrator is told, when the world does not do as he says."""

from pathlib import Path

import pytest

from furiosa.broker.cordons import Cordons
from furiosa.broker.rpc import admin_service
from furiosa.broker.rpc.admin_service import AdminService
from furiosa.broker.rpc.methods import Call
from furiosa.broker.tenancy import Tenancy
from furiosa.broker.tenants.file import TenantsFile
from furiosa.broker.tenants.policy import Tenants
from furiosa.common.errors import BadArgument, DeviceBusy
from furiosa.proto.broker.v1 import admin_pb2 as pb
from support.arbiters import Bench
from support.owners import FakeSession


def a_service(bench: Bench, tmp_path: Path) -> AdminService:
    """Of a broker whose cards are real."""
    return AdminService(
        bench.arbiter,
        Tenancy(lambda: Tenants(own_uid=1000)),
        TenantsFile(None),
        Cordons(tmp_path / "cordons.json", lambda npu, reason: None),
        lambda *_, **__: None,
        None,
        recall_grace=0.0,
    )


async def test_a_card_whose_workers_do_not_end_is_not_called_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_service, "STOP_SECONDS", 0.05)
    bench = Bench(tmp_path)
    client, root = bench.connect(FakeSession(7)), bench.connect(FakeSession(8))
    lease = await bench.acquire(client)
    service = a_service(bench, tmp_path)
    draining = service.drain(pb.DrainRequest(npu=0), Call("Admin/Drain", root.session))
    with pytest.raises(DeviceBusy, match="Device npu0 found but still in use"):
        await draining
    bench.workers_stopped(lease.id)
    await service.drain(pb.DrainRequest(npu=0), Call("Admin/Drain", root.session))


async def test_real_cards_cannot_be_made_to_fail(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    service, root = a_service(bench, tmp_path), bench.connect(FakeSession(8)).session
    refusal = "the card is a real one, expected a virtual one: only those can be made to fail"
    fault = pb.Fault(device_file="npu0", dead=pb.Fault.Dead())
    with pytest.raises(BadArgument, match=refusal):
        await service.emulate(pb.EmulateRequest(fault=fault), Call("Admin/Emulate", root))
    with pytest.raises(BadArgument, match=refusal):
        await service.clear_faults(pb.ClearFaultsRequest(), Call("Admin/ClearFaults", root))
    with pytest.raises(BadArgument, match=refusal):
        await service.list_faults(pb.ListFaultsRequest(), Call("Admin/ListFaults", root))
