"""How often a tenant may ask: token buckets, with time as an argument."""

from typing import Final

from furiosa.broker.tenants.policy import TenantPolicy

MOST_BUCKETS: Final = (
    4096  # past it those that are full again are forgotten; each is some 150 bytes
)

_ONE: Final = 1.0 - 1e-6  # who waits as long as it was told must be admitted, rounding or not


class Bucket:
    """Holds `burst` at first and at most, and gets `rate` a second."""

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._level = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> float:
        """0.0: admitted; else the seconds until one would be, and nothing is taken. `now` in seconds."""
        self._level = self._level_at(now)
        self._at = now
        if self._level >= _ONE:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate

    def is_full(self, now: float) -> bool:
        return self._level_at(now) >= self.burst

    def change(self, rate: float, burst: int, now: float) -> None:
        """Another policy is in force; what was saved up stays, up to the new burst."""
        self._level = min(self._level_at(now), float(burst))
        self._at = now
        self.rate, self.burst = rate, burst

    def _level_at(self, now: float) -> float:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(float(self.burst), self._level + passed * self.rate)


class RateLimits:
    """A bucket for each tenant that has a rate."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def take(self, policy: TenantPolicy, now: float) -> float:
        """As `Bucket.take`, of the tenant's bucket; always admitted where there is no rate."""
        rate = policy.acquires_per_second
        if rate is None:
            return 0.0
        bucket = self._buckets.get(policy.name)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._forget(now)
            bucket = self._buckets[policy.name] = Bucket(rate, policy.burst)
        elif (bucket.rate, bucket.burst) != (rate, policy.burst):
            bucket.change(rate, policy.burst, now)
        return bucket.take(now)

    def _forget(self, now: float) -> None:
        """A full bucket is as good as a new one."""
        self._buckets = {
            name: bucket for name, bucket in self._buckets.items() if not bucket.is_full(now)
        }
