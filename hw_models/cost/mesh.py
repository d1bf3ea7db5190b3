"""The mesh: which links a message takes from tile to tile, first along x, then along y."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.flows import Flows
from spikeship.hw_models.graph import Array
from spikeship.hw_models.placement.placement import Core


@dataclass(frozen=True)
class Link:
    """A way from one router of a chip to the next: (x, y) of both."""

    chip: int
    start: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Routes:
    """The ways of a synapse's flows.

    Attributes:
        out, hops_x, hops_y: for each core how many messages it sends, and the hops they take along
            x and y, for every message of a flow, (cores, flows).
        links_x, links_y: messages over each link, E-W and N-S, for every message of a flow,
            (links, flows).
        between_chips: pairs of a flow that lie on two chips, (1, flows). Their messages take no
            links: what a hop between chips costs is not public.
    """

    out: csr_matrix
    hops_x: csr_matrix
    hops_y: csr_matrix
    links_x: csr_matrix
    links_y: csr_matrix
    between_chips: csr_matrix


class Mesh:
    """Where the cores of a placement lie.

    Args:
        chips: chip of every core.
        tiles: (x, y) of every core's router, (cores, 2).
    """

    def __init__(self, chips: Array, tiles: Array) -> None:
        self.chips, self.tiles = chips, tiles
        self.width, self.height = (int(n) for n in tiles.max(axis=0) + 1)
        self.count = (int(chips.max()) + 1) * self.width * self.height

    @classmethod
    def of(cls, cores: Sequence[Core]) -> "Mesh":
        """The mesh of a placement's cores."""
        chips = np.array([core.chip for core in cores])
        return cls(chips, np.array([core.tile for core in cores]))

    def link(self, axis: str, index: int) -> Link:
        """The link of this index among those along ``x`` or ``y``."""
        router, back = divmod(index, 2)
        place, x = divmod(router, self.width)
        chip, y = divmod(place, self.height)
        step = -1 if back else 1
        end = (x + step, y) if axis == "x" else (x, y + step)
        return Link(chip, (x, y), end)

    def routes(self, flows: Flows, source: Array, target: Array) -> Routes:
        """Find the ways of a synapse's flows.

        Args:
            flows: between regions.
            source: the core of every region of the synapse's source.
            target: the core of every region of its target.
        """
        begin, end = source[flows.source], target[flows.target]
        same = self.chips[begin] == self.chips[end]
        x0, y0 = self.tiles[begin].T
        x1, y1 = self.tiles[end].T
        many = len(flows.messages)

        def by(rows: Array, count: int, chosen: Array, weight: Array | None = None) -> csr_matrix:
            values = np.ones(len(chosen)) if weight is None else weight[chosen].astype(np.float64)
            where = (rows[chosen], flows.flow[chosen])
            return csr_matrix((values, where), shape=(count, many))

        everyone, inside = np.arange(len(begin)), np.flatnonzero(same)
        along_x, along_y = (np.abs(a - b) for a, b in ((x1, x0), (y1, y0)))
        return Routes(
            out=by(begin, len(self.chips), everyone),
            hops_x=by(begin, len(self.chips), inside, along_x),
            hops_y=by(begin, len(self.chips), inside, along_y),
            links_x=self._links(flows, inside, self.chips[begin], x0, x1, y0, across=True),
            links_y=self._links(flows, inside, self.chips[begin], y0, y1, x1, across=False),
            between_chips=by(np.zeros_like(begin), 1, np.flatnonzero(~same)),
        )

    def _links(
        self,
        flows: Flows,
        inside: Array,
        chip: Array,
        first: Array,
        last: Array,
        other: Array,
        *,
        across: bool,
    ) -> csr_matrix:
        """Links along one axis; a link is its first router, and which of two ways it leads."""
        links, carried = [], []
        way = np.sign(last - first)
        for step in range(max(self.width, self.height)):
            on = inside[np.abs(last - first)[inside] > step]
            if len(on) == 0:
                break
            here = first[on] + step * way[on]
            x, y = (here, other[on]) if across else (other[on], here)
            links.append(2 * self._router(chip[on], x, y) + (way[on] < 0))
            carried.append(flows.flow[on])
        rows = np.concatenate(links) if links else np.zeros(0, np.int64)
        columns = np.concatenate(carried) if carried else np.zeros(0, np.int64)
        shape = (2 * self.count, len(flows.messages))
        return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)

    def _router(self, chip: Array, x: Array, y: Array) -> Array:
        return np.asarray((chip * self.height + y) * self.width + x, dtype=np.int64)


def chip_and_tile(index: int, chip: ChipSpec) -> tuple[int, tuple[int, int]]:
    """Chip and tile (x, y) of the placement's core of this index.

    Cores fill a tile, tiles a row of the mesh, and every second row runs back, so that cores that
    follow each other lie side by side.
    """
    on_chip, core = divmod(index, chip.cores_per_chip.value)
    y, x = divmod(core // chip.cores_per_tile.value, chip.mesh_width.value)
    return on_chip, (x if y % 2 == 0 else chip.mesh_width.value - 1 - x, y)
