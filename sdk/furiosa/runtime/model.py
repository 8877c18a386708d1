"""What a model of the API before SDK 0.10 says of itself. Deprecated, as upstream.

Source: runtime reference 8.
"""

from furiosa.runtime._deprecated import warn_of_module
from furiosa.runtime._legacy.model import Model

__all__ = ["Model"]

warn_of_module(__name__)
