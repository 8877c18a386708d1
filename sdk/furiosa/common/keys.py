"""Certificate, key and authorities of a TLS listener, as they pass from the broker to the data plane.

They travel in shared memory that only these two have: arguments and environment can be read in /proc.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Final, Self

MOST_BYTES: Final = 1024 * 1024  # of each file
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """PEM. `client_ca` signs the certificates of clients; empty: they need none."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes = b""

    def write(self, memory: int) -> None:
        """Over what the descriptor held before. Whoever reads meanwhile sees that it is not whole."""
        parts = (self.certificate, self.key, self.client_ca)
        content = json.dumps([part.decode("latin-1") for part in parts]).encode()
        data = hashlib.sha256(content).digest() + content
        os.pwrite(memory, data, 0)
        os.ftruncate(memory, len(data))

    @classmethod
    def read(cls, memory: int) -> Self | None:
        """None: it is being written at this moment, or is something else."""
        data = os.pread(memory, 4 * MOST_BYTES, 0)
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        return cls(*(part.encode("latin-1") for part in json.loads(content)))
