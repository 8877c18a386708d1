"""Which devices a runtime asks for, and which compiler target fits them."""

from collections.abc import Mapping
from typing import Final

from furiosa.common.errors import BadDeviceSpec
from furiosa.common.selector import DEFAULT_SPEC, Counted, DeviceSpec, Item
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.translate import translate

VARIABLE: Final = "FURIOSA_DEVICES"
OLD_VARIABLE: Final = "NPU_DEVNAME"
OLD_VARIABLE_WARNING: Final = "NPU_DEVNAME will be deprecated. Use FURIOSA_DEVICES instead."


def device_text(device: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The specification and where it comes from: "argument", a variable's name or "default".

    The first source that is set wins, even with nonsense in it. Source: devices reference 5.1, 5.4.
    Whoever gives a container several devices, each on its own, sets a variable FURIOSA_DEVICES_<ANY> for
    each: all of them together are the second source.
    """
    if device is not None:
        if not isinstance(device, str):
            raise TypeError(f"device: expected a str, found {type(device).__name__}")
        return device, "argument"
    if VARIABLE in environ:
        return environ[VARIABLE], VARIABLE
    if parts := sorted(name for name in environ if name.startswith(f"{VARIABLE}_")):
        return ",".join(environ[part] for part in parts), ", ".join(parts)
    if OLD_VARIABLE in environ:
        return environ[OLD_VARIABLE], OLD_VARIABLE
    return DEFAULT_SPEC, "default"


def parse(text: str, source: str = "argument") -> DeviceSpec:
    """Raises: FuriosaRuntimeError, naming the variable that the text is from."""
    try:
        return DeviceSpec.parse(text)
    except BadDeviceSpec as error:
        if source == "argument":
            raise translate(error) from error
        raise FuriosaRuntimeError(f"{error} (from {source})") from error


def target_of(spec: DeviceSpec) -> str:
    """The compiler target for the devices of `spec`; a whole card works as a fused pair.

    Raises: FuriosaRuntimeError when they differ: one model is compiled once, for all of them.
    """
    targets = {_target(item) for item in spec.items}
    if len(targets) > 1:
        raise FuriosaRuntimeError(
            f"{spec} mixes single and fused cores; one compiled model fits only one of the two"
        )
    return targets.pop()


def _target(item: Item) -> str:
    if isinstance(item, Counted):
        return "warboy" if item.cores == 1 else "warboy-2pe"
    return "warboy" if item.file.cores.width == 1 else "warboy-2pe"
