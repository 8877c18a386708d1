"""Which PEs do which operation: the cheapest choice along every chain of operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from furiosa.compiler.cdfg.ir import Operation, Split
from furiosa.compiler.cdfg.shares import (
    Shares,
    cycles_by_pe,
    fetched,
    is_splittable,
    reading,
    shares,
)
from furiosa.compiler.cost import link_cycles
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode


@dataclass(frozen=True, slots=True)
class _Choice:
    """One way to do a node: `wanted` has an entry for each source that lies in SRAM."""

    pes: int
    split: Split
    cycles: int
    made: Shares
    wanted: Sequence[Shares]


@dataclass(frozen=True, slots=True)
class _Site:
    """A node with its choices, the first of which is PE 0 alone.

    `makers` are the indices of the sites that made its sources in SRAM, `sizes` these sources' element
    sizes; `fetches` has, of each such source, elements to fetch by choice of the maker and own choice.
    """

    node: NpuNode
    choices: Sequence[_Choice]
    makers: Sequence[int]
    sizes: Sequence[int]
    fetches: Sequence[Sequence[Sequence[int]]]

    def link_cycles(self, number: int, maker: int, own: int) -> int:
        return link_cycles(self.fetches[number][maker][own] * self.sizes[number])


def place(
    nodes: Sequence[NpuNode], values: Mapping[str, Value], shared: frozenset[str], pes: int
) -> list[Operation]:
    """Operations of `nodes`, in order, on up to `pes` PEs; values in `shared` lie in DRAM.

    Dynamic programming over the order of the nodes: the cost of a choice is its cycles, those of
    fetching its sources, and those of the cheapest choices before it. It finds the optimum for chains
    and trees. A value with several readers divides its cost among them, and its choice is made last,
    when theirs are known. Where that ends up slower than PE 0 alone, PE 0 does everything.
    """
    if pes == 1:
        return [Operation(node, 1) for node in nodes]
    sites = _sites(nodes, values, shared, pes)
    best, alone = _cheapest(sites), [0] * len(sites)
    chosen = best if _total(sites, best) < _total(sites, alone) else alone
    return [_operation(site, chosen, own) for site, own in zip(sites, chosen, strict=True)]


def _sites(
    nodes: Sequence[NpuNode], values: Mapping[str, Value], shared: frozenset[str], pes: int
) -> list[_Site]:
    sites: list[_Site] = []
    made_by = {node.output: index for index, node in enumerate(nodes)}
    for node in nodes:
        kept = [n for n, name in enumerate(node.inputs) if name not in shared]
        choices = _choices(node, values, shared, kept, pes)
        makers = [made_by[node.inputs[n]] for n in kept]
        fetches = [
            [
                [fetched(own.wanted[n], held.made) for own in choices]
                for held in sites[maker].choices
            ]
            for n, maker in enumerate(makers)
        ]
        sizes = [values[node.inputs[n]].dtype.itemsize for n in kept]
        sites.append(_Site(node, choices, makers, sizes, fetches))
    return sites


def _choices(
    node: NpuNode,
    values: Mapping[str, Value],
    shared: frozenset[str],
    kept: Sequence[int],
    pes: int,
) -> list[_Choice]:
    result, sources = values[node.output], [values[name] for name in node.inputs]
    shapes = [source.shape for source in sources]
    in_place = node.opcode is Opcode.RESHAPE and kept and node.output not in shared
    options = [(1, Split.NONE)] + [
        ((1 << pes) - 1, split)
        for split in (Split.IMAGES, Split.CHANNELS, Split.ROWS)
        if is_splittable(result.shape, split, pes)
    ]
    choices = []
    for mask, split in options:
        made = shares(result.shape, mask, split)
        wanted = reading(node, shapes, result.shape, made)
        spent = 0 if in_place else max(cycles_by_pe(node, sources, result, made, wanted).values())
        choices.append(_Choice(mask, split, spent, made, [wanted[n] for n in kept]))
    return choices


def _cheapest(sites: Sequence[_Site]) -> list[int]:
    """The choice of each site."""
    readers: list[list[tuple[int, int]]] = [[] for _ in sites]  # site and number of the source
    for index, site in enumerate(sites):
        for number, maker in enumerate(site.makers):
            readers[maker].append((index, number))
    costs: list[list[int]] = []
    for site in sites:
        found = [choice.cycles for choice in site.choices]
        for number, maker in enumerate(site.makers):
            before = [cost // len(readers[maker]) for cost in costs[maker]]
            for own in range(len(found)):
                found[own] += min(
                    [spent + site.link_cycles(number, n, own) for n, spent in enumerate(before)]
                )
        costs.append(found)
    chosen = [0] * len(sites)
    for index in reversed(range(len(sites))):
        totals = [
            cost + sum(sites[r].link_cycles(n, own, chosen[r]) for r, n in readers[index])
            for own, cost in enumerate(costs[index])
        ]
        chosen[index] = totals.index(min(totals))
    return chosen


def _total(sites: Sequence[_Site], chosen: Sequence[int]) -> int:
    return sum(
        site.choices[own].cycles
        + sum(site.link_cycles(n, chosen[maker], own) for n, maker in enumerate(site.makers))
        for site, own in zip(sites, chosen, strict=True)
    )


def _operation(site: _Site, chosen: Sequence[int], own: int) -> Operation:
    choice = site.choices[own]
    exchanged = sum(
        site.fetches[number][chosen[maker]][own] * site.sizes[number]
        for number, maker in enumerate(site.makers)
    )
    return Operation(site.node, choice.pes, choice.split, exchanged)
