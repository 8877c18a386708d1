"""cdfg: ordered tasks, each NPU operation placed on PEs."""
