"""ldfg: the graph split into NPU and host sections, with the NPU's own operations."""
