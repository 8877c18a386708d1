"""Version of the compiler. Source of names and texts: compiler reference 5, command-line reference 1.1."""

from dataclasses import dataclass
from typing import Final

from furiosa.common.build import BUILD_TIME, VERSION


@dataclass(frozen=True, slots=True)
class VersionInfo:
    version: str  # x.y.z
    git_hash: str  # 9 hex digits
    build_timestamp: str  # ISO 8601, UTC

    def __str__(self) -> str:
        return f"{self.version} (rev: {self.git_hash} built at {self.build_timestamp})"


COMPILER: Final = VersionInfo(VERSION.version, VERSION.revision, BUILD_TIME)


def version_string() -> str:
    return str(COMPILER)


def version_dict() -> dict[str, str]:
    return {
        "version": COMPILER.version,
        "rev": COMPILER.git_hash,
        "built": COMPILER.build_timestamp,
    }
