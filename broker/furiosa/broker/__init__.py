"""The device broker: the one process that hands out NPU cores."""
