"""What is known of a model before it is read."""

from typing import Final

ENF_MAGIC: Final = b"\x89ENF\r\n\x1a\n"  # begins every ENF; catches text-mode transfers, as in PNG
MAX_MODEL_BYTES: Final = 1 << 30  # of a model with all of its tensors
