"""Version of the runtime, as bug reports want it."""

from furiosa.common.build import BUILD_TIME, VERSION, Version

__all__ = ["VERSION", "Version", "full_version"]


def full_version() -> str:
    """One line for bug reports. Source: runtime reference 1."""
    native = f"furiosa-rt {VERSION.version} {VERSION.revision} {BUILD_TIME}"
    return f"Furiosa SDK Runtime {VERSION} ({native})"
