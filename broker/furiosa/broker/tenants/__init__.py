"""Who may do what: principals, their tenants, and the file that says so."""

from furiosa.broker.tenants.file import TenantsFile
from furiosa.broker.tenants.parse import BadTenants
from furiosa.broker.tenants.policy import Tenant, TenantPolicy, Tenants
from furiosa.broker.tenants.principal import Match, Principal
from furiosa.broker.tenants.ratelimit import Bucket, RateLimits
from furiosa.broker.tenants.tokens import new_token

__all__ = [
    "BadTenants",
    "Bucket",
    "Match",
    "Principal",
    "RateLimits",
    "Tenant",
    "TenantPolicy",
    "Tenants",
    "TenantsFile",
    "new_token",
]
