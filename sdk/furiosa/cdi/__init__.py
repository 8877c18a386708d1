"""NPUs for container runtimes: what a container is given, and the Container Device Interface.

Source: CNCF Container Device Interface specification, SPEC.md.
"""

from furiosa.cdi.access import Access, Mount, access, device_nodes, variable
from furiosa.cdi.folder import FOLDERS, BadSpec, present, remove, write
from furiosa.cdi.spec import (
    CLAIM_KIND,
    KIND,
    claim_device,
    claim_spec,
    node_spec,
    qualified,
    text,
)

__all__ = [
    "CLAIM_KIND",
    "FOLDERS",
    "KIND",
    "Access",
    "BadSpec",
    "Mount",
    "access",
    "claim_device",
    "claim_spec",
    "device_nodes",
    "node_spec",
    "present",
    "qualified",
    "remove",
    "text",
    "variable",
    "write",
]
