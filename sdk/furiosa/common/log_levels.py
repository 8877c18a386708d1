"""What FURIOSA_LOG_LEVEL may say."""

import logging
from collections.abc import Mapping
from typing import Final

# Those of the runtime reference 9, then those of Python that are not among them.
LEVELS: Final[Mapping[str, int]] = {
    "OFF": logging.CRITICAL + 1,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "CRITICAL": logging.CRITICAL,
    "WARNING": logging.WARNING,
    "DEBUG": logging.DEBUG,
}
