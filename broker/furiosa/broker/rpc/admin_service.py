"""Admin: who may, convert, ask the arbiter."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.audit import who
from furiosa.broker.cordons import Cordons
from furiosa.broker.emulation import Emulation
from furiosa.broker.log import event
from furiosa.broker.rpc.lease_service import seconds_of
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.sessions import Session
from furiosa.broker.tenancy import Tenancy
from furiosa.broker.tenants.file import TenantsFile
from furiosa.broker.tenants.parse import BadTenants
from furiosa.common.causes import REVOKED
from furiosa.common.errors import BadArgument, DeviceBusy, NotAllowed, NotRecorded, UnknownDevice
from furiosa.common.fault_wire import fault_from_wire, fault_to_wire
from furiosa.common.wire import lease_to_wire
from furiosa.proto.broker.v1 import admin_pb2 as pb

log = logging.getLogger(__name__)

CORDON: Final = "cordon"  # the role in which a card is closed here
STOP_SECONDS: Final = 30.0  # past the grace, for workers to be gone
MAX_REASON: Final = 256  # characters


class AdminService:
    """`audit` gets each act. Without `emulation` the cards are real.

    `recall_grace` in seconds is what an owner has when nobody says otherwise.
    """

    def __init__(
        self,
        arbiter: Arbiter,
        tenancy: Tenancy,
        tenants_file: TenantsFile,
        cordons: Cordons,
        audit: Callable[..., None],
        emulation: Emulation | None,
        *,
        recall_grace: float,
    ) -> None:
        self._arbiter = arbiter
        self._tenancy = tenancy
        self._tenants_file = tenants_file
        self._cordons = cordons
        self._audit = audit
        self._emulation = emulation
        self._recall_grace = recall_grace

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Admin/Revoke": Unary(pb.RevokeRequest, self.revoke),
            "Admin/Cordon": Unary(pb.CordonRequest, self.cordon),
            "Admin/Uncordon": Unary(pb.UncordonRequest, self.uncordon),
            "Admin/Drain": Unary(pb.DrainRequest, self.drain),
            "Admin/Reload": Unary(pb.ReloadRequest, self.reload),
            "Admin/Emulate": Unary(pb.EmulateRequest, self.emulate),
            "Admin/ClearFaults": Unary(pb.ClearFaultsRequest, self.clear_faults),
            "Admin/ListFaults": Unary(pb.ListFaultsRequest, self.list_faults),
        }

    async def revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        self._authorize(call, "revoke leases of others", lease=request.lease_id)
        cause = _cause(REVOKED, request.reason)
        lease = self._arbiter.revoke(request.lease_id, cause, self._grace(request))
        return pb.RevokeResponse(lease=lease_to_wire(lease))

    async def cordon(self, request: pb.CordonRequest, call: Call) -> pb.CordonResponse:
        self._authorize(call, "cordon cards", npu=request.npu, reason=request.reason[:MAX_REASON])
        await self._close(request.npu, request.reason)
        return pb.CordonResponse()

    async def uncordon(self, request: pb.UncordonRequest, call: Call) -> pb.UncordonResponse:
        self._authorize(call, "uncordon cards", npu=request.npu)
        if request.npu not in self._cordons.reasons:
            self._check_card(request.npu)
        await self._cordon(request.npu, None)
        return pb.UncordonResponse()

    async def drain(self, request: pb.DrainRequest, call: Call) -> pb.DrainResponse:
        self._authorize(call, "drain cards", npu=request.npu, reason=request.reason[:MAX_REASON])
        await self._close(request.npu, request.reason)
        grace = self._grace(request)
        leases = self._arbiter.book.leases_on(request.npu)
        endings = [e for lease in leases if (e := self._arbiter.ending(lease)) is not None]
        cause = _cause(f"npu{request.npu} is drained", request.reason)
        for lease in leases:
            self._arbiter.revoke(lease, cause, grace)
        if endings:
            _, left = await asyncio.wait(endings, timeout=grace + STOP_SECONDS)
            if left:
                raise DeviceBusy(f"npu{request.npu}")
        return pb.DrainResponse(revoked=len(leases))

    async def reload(self, request: pb.ReloadRequest, call: Call) -> pb.ReloadResponse:
        self._authorize(call, "reload the tenants file")
        try:
            await self._tenants_file.reload()
        except BadTenants as exc:
            expected = "a sound one; the old one stays in force"
            raise BadArgument("the tenants file", str(exc), expected) from None
        return pb.ReloadResponse(tenants=str(self._tenants_file.path or ""))

    async def emulate(self, request: pb.EmulateRequest, call: Call) -> pb.EmulateResponse:
        device = request.fault.device_file[:MAX_REASON]
        self._authorize(call, "make cards fail", device=device, fault=_kind(request.fault))
        emulation = self._virtual()
        seconds = None
        if request.HasField("time_to_live"):
            seconds = seconds_of("time_to_live", request.time_to_live)
        fault = await emulation.set(fault_from_wire(request.fault), seconds)
        return pb.EmulateResponse(fault=fault_to_wire(fault))

    async def clear_faults(
        self, request: pb.ClearFaultsRequest, call: Call
    ) -> pb.ClearFaultsResponse:
        npu = request.npu if request.HasField("npu") else None
        self._authorize(call, "make cards well", npu="all" if npu is None else npu)
        emulation = self._virtual()
        if npu is not None and not emulation.has_card(npu):
            raise UnknownDevice(f"npu{npu}")
        return pb.ClearFaultsResponse(cleared=await emulation.clear(npu))

    async def list_faults(self, request: pb.ListFaultsRequest, call: Call) -> pb.ListFaultsResponse:
        self._authorize(call, "see the faults of cards")
        standing = self._virtual().faults.standing
        return pb.ListFaultsResponse(faults=map(fault_to_wire, standing))

    def _virtual(self) -> Emulation:
        if self._emulation is None:
            raise BadArgument(
                "the card", "a real one", "a virtual one: only those can be made to fail"
            )
        return self._emulation

    def _authorize(self, call: Call, what: str, **fields: object) -> None:
        session = call.need_session()
        act = call.method.partition("/")[2].lower()
        try:
            policy = self._tenancy.need_admin(session, what)
        except NotAllowed as exc:
            self._note("admin.refused", session, exc.tenant, act=act, **fields)
            raise
        self._note(f"admin.{act}", session, policy.name, **fields)

    def _note(self, name: str, session: Session, tenant: str, **fields: object) -> None:
        view = session.owner.view
        event(log, name, pid=view.pid, uid=view.uid, tenant=tenant, **fields)
        self._audit(name, **who(view), tenant=tenant, **fields)

    async def _close(self, npu: int, reason: str) -> None:
        self._check_card(npu)
        await self._cordon(npu, reason[:MAX_REASON] or "taken out of service by an administrator")

    async def _cordon(self, npu: int, reason: str | None) -> None:
        try:
            await self._cordons.set(npu, reason)
        except OSError as exc:
            raise NotRecorded(str(exc)) from None

    def _check_card(self, npu: int) -> None:
        if not self._arbiter.book.has_card(npu):
            raise UnknownDevice(f"npu{npu}")

    def _grace(self, request: pb.RevokeRequest | pb.DrainRequest) -> float:
        if not request.HasField("grace"):
            return self._recall_grace
        return seconds_of("grace", request.grace)


def _kind(fault: pb.Fault) -> str:
    return fault.WhichOneof("kind") or "none"


def _cause(what: str, reason: str) -> str:
    return f"{what}: {reason[:MAX_REASON]}" if reason else what
