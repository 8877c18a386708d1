"""What a tenant may do, and which tenant a client is.

The first tenant in the file that matches is it; who matches none is a stranger. Root and the broker's own
user can always administer, whatever the file says: they could change the file, and a mistake in it must
not lock them out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from furiosa.broker.tenants import tokens
from furiosa.broker.tenants.principal import Match, Principal
from furiosa.common.errors import NotAllowed

MOST_PRIORITY: Final = 1000  # and the least is as far below 0
ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """None: no limit. Keys of the same names, with dashes, are explained in docs/tenants.md."""

    name: str
    weight: float = 1.0
    priority: int = 0  # of a request that asks for none
    max_priority: int = 0
    cards: frozenset[int] | None = None
    max_cores: int | None = None
    max_waiting: int | None = None  # requests in the queue at once
    max_program_bytes: int | None = None
    may_preempt: bool = False
    admin: bool = False
    acquires_per_second: float | None = None
    burst: int = 20  # requests at once, when there is a rate


@dataclass(frozen=True, slots=True)
class Tenant:
    """`tokens`: SHA-256 digests, in hex, of the bearer tokens that are this tenant's."""

    policy: TenantPolicy
    matches: tuple[Match, ...] = ()
    tokens: tuple[str, ...] = ()


class Tenants:
    """`strangers`: what each of them, as a tenant of its own, may do; None: nothing, they are refused."""

    def __init__(
        self,
        tenants: Iterable[Tenant] = (),
        strangers: TenantPolicy | None = TenantPolicy(""),
        *,
        own_uid: int = ROOT,
    ) -> None:
        self._tenants = tuple(tenants)
        self._strangers = strangers
        self._administrators = frozenset({ROOT, own_uid})
        self._by_name = {tenant.policy.name: tenant for tenant in self._tenants}
        self._by_digest: Mapping[str, str] = {
            digest: tenant.policy.name for tenant in self._tenants for digest in tenant.tokens
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def policy_for(self, who: Principal) -> TenantPolicy:
        """Raises: NotAllowed, when the file has no place for it."""
        found = self._tenant_of(who)
        if who.container is None and who.uid in self._administrators:
            if found is None:
                return TenantPolicy(
                    str(who), max_priority=MOST_PRIORITY, may_preempt=True, admin=True
                )
            return found.policy if found.policy.admin else replace(found.policy, admin=True)
        if found is not None:
            return found.policy
        if self._strangers is None or who.token:
            raise NotAllowed(str(who), "use this broker: no tenant of its tenants file matches")
        return replace(self._strangers, name=str(who))

    def token_name(self, presented: str) -> str | None:
        """Whose bearer token this is: a tenant's name, as `Principal.token` wants it."""
        return tokens.find(self._by_digest, presented)

    def _tenant_of(self, who: Principal) -> Tenant | None:
        if who.token:
            tenant = self._by_name.get(who.token)
            return tenant if tenant is not None and tenant.tokens else None
        for tenant in self._tenants:
            for match in tenant.matches:
                if match.admits(who):
                    return tenant
        return None
