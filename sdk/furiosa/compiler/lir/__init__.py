"""lir: the instruction stream with its constants."""
