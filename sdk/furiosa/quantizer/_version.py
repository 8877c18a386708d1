"""Which quantizer this is."""

from importlib.metadata import PackageNotFoundError, version


def _number() -> str:
    try:
        return version("furiosa-broker")
    except PackageNotFoundError:  # imported from a source tree that nobody installed
        return "0.0.0"


VERSION = _number()
# Source: reference of the quantizer, section 3; there is no native part with a hash of its own
FULL_VERSION = f"Furiosa SDK Quantizer {VERSION} (furiosa_quantizer_impl {VERSION})"
