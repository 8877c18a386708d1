"""Which build of the SDK this is: number, stage, commit and time.

The two constants are replaced when a distribution is built; in a checkout they say "unknown".
"""

from dataclasses import dataclass
from typing import Final

NUMBER: Final = "0.1.0"  # the distribution takes it from here
BUILD_HASH: Final = "0" * 40
BUILD_TIME: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Version:
    """Source of the text: command-line reference 1."""

    version: str  # x.y.z
    stage: str  # "dev" or "release"
    hash: str  # the whole commit, 40 hex digits

    @property
    def revision(self) -> str:
        """The commit in short, 9 hex digits."""
        return self.hash[:9]

    def __str__(self) -> str:
        return f"{self.version}-{self.stage} (rev: {self.revision})"


VERSION: Final = Version(NUMBER, "dev", BUILD_HASH)
