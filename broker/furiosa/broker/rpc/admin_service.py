"""Admin: who may, convert, ask the arbiter."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.audit import who
from furiosa.broker.cordons import Cordons
from furiosa.broker.log import event
from furiosa.broker.rpc.lease_service import seconds_of
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.sessions import Session
from furiosa.broker.tenancy import Tenancy
from furiosa.broker.tenants.file import TenantsFile
from furiosa.broker.tenants.parse import BadTenants
from furiosa.common.errors import BadArgument, DeviceBusy, NotAllowed, NotRecorded, UnknownDevice
from furiosa.common.wire import lease_to_wire
from furiosa.proto.broker.v1 import admin_pb2 as pb

log = logging.getLogger(__name__)

CORDON: Final = "cordon"  # the role in which a card is closed here
STOP_SECONDS: Final = 30.0  # past the grace, for workers to be gone
MAX_REASON: Final = 256  # characters


class AdminService:
    """`audit` gets each act.

    `recall_grace` in seconds is what an owner has when nobody says otherwise.
    """

    def __init__(
        self,
        arbiter: Arbiter,
        tenancy: Tenancy,
        tenants_file: TenantsFile,
        cordons: Cordons,
        audit: Callable[..., None],
        *,
        recall_grace: float,
    ) -> None:
        self._arbiter = arbiter
        self._tenancy = tenancy
        self._tenants_file = tenants_file
        self._cordons = cordons
        self._audit = audit
        self._recall_grace = recall_grace

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Admin/Revoke": Unary(pb.RevokeRequest, self.revoke),
            "Admin/Cordon": Unary(pb.CordonRequest, self.cordon),
            "Admin/Uncordon": Unary(pb.UncordonRequest, self.uncordon),
            "Admin/Drain": Unary(pb.DrainRequest, self.drain),
            "Admin/Reload": Unary(pb.ReloadRequest, self.reload),
        }

    async def revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        self._authorize(call, "revoke leases of others", lease=request.lease_id)
        cause = _cause("revoked by an administrator", request.reason)
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


def _cause(what: str, reason: str) -> str:
    return f"{what}: {reason[:MAX_REASON]}" if reason else what
