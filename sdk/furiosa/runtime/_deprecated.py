"""What the deprecated parts of the API say of themselves."""

import warnings


def warn_of_module(name: str) -> None:
    """For the module `name`, while it is imported; whoever imports it is shown.

    Source of the text: runtime reference 1.
    """
    _warn(f"'{name}' module is deprecated and will be removed in a future release.")


def warn_of_use(what: str, instead: str) -> None:
    """For a function; its caller is shown."""
    _warn(f"{what} is deprecated; use {instead}.")


def _warn(text: str) -> None:
    warnings.warn(text, FutureWarning, stacklevel=4)
