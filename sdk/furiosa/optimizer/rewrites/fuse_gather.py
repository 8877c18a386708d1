"""A table look-up followed by a matrix product is a look-up in the product."""

from furiosa.optimizer.graph import Graph, is_standard


def fuse_gather(graph: Graph) -> bool:
    """MatMul(Gather(table, indices), matrix), both constant, becomes Gather(table @ matrix, indices).

    Source: reference of the optimizer, section 2.
    """
    changed = False
    for node in list(graph.nodes):
        gather = graph.producer(node.input[0]) if is_standard(node, "MatMul") else None
        if gather is None or not is_standard(gather, "Gather"):
            continue
        table, matrix = graph.array(gather.input[0]), graph.array(node.input[1])
        axis = next((a.i for a in gather.attribute if a.name == "axis"), 0)
        if (
            axis != 0
            or table is None
            or matrix is None
            or (table.ndim, matrix.ndim) != (2, 2)
            or graph.only_reader(gather.output[0]) is not node
        ):
            continue
        product = (table.astype("f8") @ matrix.astype("f8")).astype(table.dtype)
        graph.set_input(gather, 0, graph.add_constant(product, f"{gather.name}_product"))
        graph.set_output(gather, 0, node.output[0])
        graph.remove([node])
        changed = True
    return changed
