"""How much of the cores each tenant has and has had: what decides whose turn it is.

Among requests of equal rank the tenant with the fewest cores for its weight comes first, and among
equals the one that has used the fewest core-seconds for its weight. Use is forgotten by half in a day,
so that no old imbalance is paid for in months to come. A tenant that comes back after a pause keeps
what it has used, and starts no lower than the least user of those who stayed: absence earns no credit,
and leaving does not wipe out a debt.
"""

import math
from dataclasses import dataclass
from typing import Final

HALF_LIFE: Final = 86_400.0  # seconds; long against the time for which cores are held
MAX_LEFT: Final = 1024  # tenants that neither hold nor wait, and are remembered all the same


@dataclass(slots=True)
class _Account:
    weight: float
    since: float
    used: float  # core-seconds, up to `since`
    cores: int = 0
    waiting: int = 0

    @property
    def is_idle(self) -> bool:
        return self.cores == 0 and self.waiting == 0

    def usage(self, now: float) -> float:
        return self._used(now) / self.weight

    def settle(self, now: float) -> None:
        self.used = self._used(now)
        self.since = now

    def _used(self, now: float) -> float:
        seconds = now - self.since
        return self.used * math.exp2(-seconds / HALF_LIFE) + self.cores * seconds


class Shares:
    """Accounts of the tenants that hold or wait, and of some that left."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._left: dict[str, _Account] = {}  # idle since `since`, the longest first
        self._deserted = 0.0  # when the last one left

    def rank(self, tenant: str, now: float) -> tuple[float, float]:
        """The lower the sooner."""
        account = self._accounts[tenant]
        return account.cores / account.weight, account.usage(now)

    def cores(self, tenant: str) -> int:
        account = self._accounts.get(tenant)
        return 0 if account is None else account.cores

    def waiting(self, tenant: str) -> int:
        account = self._accounts.get(tenant)
        return 0 if account is None else account.waiting

    def hold(self, tenant: str, weight: float | None, cores: int, now: float) -> None:
        """It has so many cores more, or fewer. `weight` as its policy now says; None: as before."""
        account = self._account(tenant, weight, now)
        account.settle(now)
        account.cores += cores
        self._leave_if_idle(tenant, now)

    def wait(self, tenant: str, weight: float | None, requests: int, now: float) -> None:
        """It has so many requests more, or fewer, in the queue."""
        self._account(tenant, weight, now).waiting += requests
        self._leave_if_idle(tenant, now)

    def _account(self, tenant: str, weight: float | None, now: float) -> _Account:
        account = self._accounts.get(tenant) or self._enter(tenant, weight or 1.0, now)
        if weight is not None and weight != account.weight:
            account.settle(now)
            account.used *= weight / account.weight
            account.weight = weight
        return account

    def _enter(self, tenant: str, weight: float, now: float) -> _Account:
        if not self._accounts and self._deserted < now:
            self._left.clear()  # nobody competed: nobody owes anybody anything
        left = self._left.pop(tenant, None)
        account = left or _Account(weight, now, 0.0)
        if left is None or left.since < now:
            floor = min((each.usage(now) for each in self._accounts.values()), default=0.0)
            account.settle(now)
            account.used = max(account.used, floor * account.weight)
        self._accounts[tenant] = account
        return account

    def _leave_if_idle(self, tenant: str, now: float) -> None:
        if self._accounts[tenant].is_idle:
            account = self._left[tenant] = self._accounts.pop(tenant)
            account.settle(now)
            self._deserted = now
            if len(self._left) > MAX_LEFT:
                del self._left[next(iter(self._left))]
