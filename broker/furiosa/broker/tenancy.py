"""Which policy a session is under: kept until the tenants file changes, so that asking costs nothing."""

import logging
import math
import time
import weakref
from collections.abc import Callable

from furiosa.broker.lease import EVERYBODY, Claim
from furiosa.broker.sessions import Session
from furiosa.broker.tenants.policy import TenantPolicy, Tenants
from furiosa.broker.tenants.ratelimit import RateLimits
from furiosa.common.clock import Clock
from furiosa.common.errors import NotAllowed, RateLimited

log = logging.getLogger(__name__)


class Tenancy:
    """`tenants()` is the policy in force; `is_given` says of a session that its container was given cores,
    so that it needs no place in the tenants file. For the event loop's thread.
    """

    def __init__(
        self,
        tenants: Callable[[], Tenants],
        clock: Clock = time.monotonic,
        *,
        is_given: Callable[[Session], bool] = lambda _: False,
    ) -> None:
        self._tenants = tenants
        self._clock = clock
        self._is_given = is_given
        self._known: Tenants | None = None
        self._policies: weakref.WeakKeyDictionary[Session, TenantPolicy] = (
            weakref.WeakKeyDictionary()
        )
        self._rates = RateLimits()

    def policy(self, session: Session) -> TenantPolicy:
        """Raises: NotAllowed for one that no tenant admits."""
        tenants = self._tenants()
        if tenants is not self._known:
            self._known = tenants
            self._policies.clear()
        found = self._policies.get(session)
        if found is None:
            found = self._policies[session] = self._policy_for(session, tenants)
        return found

    def _policy_for(self, session: Session, tenants: Tenants) -> TenantPolicy:
        who = session.owner.principal
        try:
            return tenants.policy_for(who)
        except NotAllowed:
            if not self._is_given(session):
                raise
            return TenantPolicy(str(who))

    def ask(self, session: Session) -> TenantPolicy:
        """The policy for a request that counts. Raises: NotAllowed, RateLimited."""
        policy = self.policy(session)
        wait = self._rates.take(policy, self._clock())
        if wait > 0:
            raise RateLimited(policy.name, max(1, math.ceil(wait * 1000)))
        return policy

    def need_admin(self, session: Session, what: str) -> TenantPolicy:
        """Raises: NotAllowed."""
        policy = self.policy(session)
        if not policy.admin:
            raise NotAllowed(policy.name, what)
        return policy


def claim_of(policy: TenantPolicy, pool: str = EVERYBODY) -> Claim:
    """What was reserved for somebody is his: no limit of the tenants file is about it."""
    if pool != EVERYBODY:
        return Claim(policy.name, policy.weight, pool=pool)
    return Claim(
        policy.name,
        policy.weight,
        policy.cards,
        policy.max_cores,
        policy.max_waiting,
        policy.may_preempt,
    )
