"""Which quantizer this is. Source of the text: reference of the quantizer, section 3."""

from typing import Final

from furiosa.common.build import BUILD_TIME
from furiosa.common.build import VERSION as _BUILD

VERSION: Final = _BUILD.version
_NATIVE: Final = f"furiosa_quantizer_impl {VERSION} {_BUILD.revision} {BUILD_TIME}"
FULL_VERSION: Final = f"Furiosa SDK Quantizer {VERSION} ({_NATIVE})"
