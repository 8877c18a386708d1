"""Version of the package, as bug reports want it. Source: device API reference 1."""

from furiosa.common.build import BUILD_TIME, VERSION, Version

__all__ = ["VERSION", "Version", "full_version"]


def full_version() -> str:
    """One line."""
    return (
        f"Furiosa SDK Device {VERSION} (native {VERSION.version} {VERSION.revision} {BUILD_TIME})"
    )
