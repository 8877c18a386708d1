"""dfg: the source model as a typed graph of operators."""
