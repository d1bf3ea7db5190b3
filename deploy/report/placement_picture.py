"""The cores of every chip as a picture: how full each is, and how long each works.

A chip is its mesh of tiles, four cores a tile. On the left a core's colour is the share of its
fullest limit, on the right its mean share of the busiest core's time. Numbers in the cells are the
layers, which are listed below with their cores. Below them stands what does not fit.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spikeship.deploy.report.drawing import (
    LIGHT,
    THEMED,
    Palette,
    Picture,
    clipped,
    picture,
    printable,
    save,
)
from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.estimate import Estimate
from spikeship.hw_models.placement.layer import core_limits
from spikeship.hw_models.placement.placement import Core, LimitName, Placement

SHOWN_CHIPS = 12
_SHOWN_LAYERS = 60
_NUMBERED_CHIPS = 2  # of so many chips every cell has its number, of more the first of a layer
_TILE_SIDE = 2  # cores along a tile's side
_WIDTH, _MARGIN, _GAP = 10.0, 0.15, 0.2  # inches
_HEAD, _TITLE, _LINE = 0.75, 0.22, 0.17
_COLUMNS = 3  # of the list of layers
_OVER = "#c4304a"
_FORCED = {"none": "", "time": ", more for speed", "given": ", as given"}
_ACROSS = 150  # letters of a line over the whole width
_SHOWN_REASONS = 8


@dataclass(frozen=True, eq=False)
class PlacementFigure:
    """What the picture shows.

    Attributes:
        placement: cores and layers.
        chip: the chip it is for, with its limits.
        shares: each core's mean share of the busiest core's time in a step, 0..1, in the
            placement's order of cores.

    Raises:
        ValueError: not one share a core, or another chip.
    """

    placement: Placement
    chip: ChipSpec
    shares: Sequence[float]

    def __post_init__(self) -> None:
        if self.placement.chip != self.chip.name or len(self.shares) != self.placement.cores:
            raise InputError(
                f"placement picture: {len(self.shares)} shares and the chip {self.chip.name}, of a "
                f"placement of {self.placement.cores} cores on {self.placement.chip}; give those "
                "of one estimate"
            )

    @property
    def cores(self) -> tuple[Core, ...]:
        """All cores in the placement's order."""
        return tuple(core for layer in self.placement.layers for core in layer.cores)


def fullest(core: Core, chip: ChipSpec) -> tuple[float, LimitName]:
    """The share of its limit that a core uses most of, and that limit's name."""
    used = core.loads
    shares = [(used[name] / limit.value, name) for name, limit in core_limits(chip).items()]
    return max(shares, key=lambda share: share[0])


def figure_of(found: Estimate) -> PlacementFigure:
    """What the picture shows of an estimate: its placement, and each core's share of the time."""
    seconds = found.times.compute
    busiest = seconds.max(axis=0)
    working = busiest > 0
    shares = seconds[:, working] / busiest[working]
    mean = shares.mean(axis=1) if working.any() else np.zeros(len(seconds))
    return PlacementFigure(found.placement, chips.get(found.chip), [float(n) for n in mean])


def placement_picture(shown: PlacementFigure) -> Picture:
    """Draw a placement for the report."""
    with matplotlib.rc_context(THEMED.style()):
        return picture(*_draw(shown, THEMED))


def write_placement_picture(shown: PlacementFigure, path: Path) -> None:
    """Write a placement's picture, its text alternative inside.

    Args:
        shown: what to draw.
        path: ``.svg`` or ``.png``.

    Raises:
        DeployError: another suffix.
    """
    with matplotlib.rc_context(LIGHT.style()):
        save(*_draw(shown, LIGHT), path)


@dataclass(frozen=True)
class _Cell:
    """One core in its chip's grid: its place, its layer's number and the two shares."""

    chip: int
    row: int
    column: int
    layer: int
    full: float
    busy: float


def _cells(shown: PlacementFigure) -> Iterator[_Cell]:
    taken: dict[tuple[int, tuple[int, int]], int] = {}
    numbers = {layer.name: index + 1 for index, layer in enumerate(shown.placement.layers)}
    for core, busy in zip(shown.cores, shown.shares, strict=True):
        place = (core.chip, core.tile)
        index = taken.get(place, 0)
        taken[place] = index + 1
        x, y = core.tile
        yield _Cell(
            core.chip,
            y * _TILE_SIDE + index // _TILE_SIDE,
            x * _TILE_SIDE + index % _TILE_SIDE,
            numbers[core.layer],
            fullest(core, shown.chip)[0],
            busy,
        )


def _draw(shown: PlacementFigure, palette: Palette) -> tuple[Figure, str]:
    placement, cells = shown.placement, list(_cells(shown))
    across = shown.chip.mesh_width.value
    down = -(-shown.chip.cores_per_chip.value // (across * shown.chip.cores_per_tile.value))
    grid = (down * _TILE_SIDE, across * _TILE_SIDE)
    chips = sorted({cell.chip for cell in cells})
    drawn = chips[:SHOWN_CHIPS]
    beside = 1 if len(drawn) <= _NUMBERED_CHIPS else 2  # chips a row
    panels = 2 * beside
    side = (_WIDTH - 2 * _MARGIN - (panels - 1) * _GAP) / panels
    tall = side * grid[0] / grid[1]
    words = _layer_lines(shown)
    reasons = _reason_lines(shown)
    lines = -(-(len(words) + 2) // _COLUMNS) + len(reasons)  # and two remarks
    rows = -(-len(drawn) // beside)
    height = _HEAD + rows * (tall + _TITLE + _GAP) + _LINE * (lines + 1) + 2 * _MARGIN
    figure = Figure(figsize=(_WIDTH, height))
    colours = matplotlib.colormaps["cividis"].with_extremes(over=_OVER)
    _heads(figure, height, colours, palette)
    for index, chip in enumerate(drawn):
        here = [cell for cell in cells if cell.chip == chip]
        top = height - _HEAD - (index // beside) * (tall + _TITLE + _GAP) - _TITLE
        for half, key in enumerate(("full", "busy")):
            # the left half of the picture is fullness, the right half time
            left = _MARGIN + (half * beside + index % beside) * (side + _GAP)
            place = (left / _WIDTH, (top - tall) / height, side / _WIDTH, tall / height)
            axes = figure.add_axes(place)
            values = np.array([getattr(cell, key) for cell in here])
            _panel(axes, here, values, grid, colours, palette, len(drawn) <= _NUMBERED_CHIPS)
            axes.set_title(
                f"chip {chip + 1}: {len(here)} of {shown.chip.cores_per_chip.value} cores",
                loc="left", fontsize=8, pad=3, color=palette.ink,
            )  # fmt: skip
    rest = placement.cores - sum(cell.chip in drawn for cell in cells)
    if rest:
        words = [*words, f"not drawn: {len(chips) - len(drawn)} more chips, {rest:,} cores"]
    if any(cell.full > 1 for cell in cells):
        words = [*words, "red: more than a core holds"]
    _list(figure, words, height, palette, above=len(reasons))
    for index, line in enumerate(reasons):
        high = _MARGIN + (len(reasons) - 1 - index) * _LINE
        figure.text(_MARGIN / _WIDTH, high / height, line, fontsize=7.5, color=_OVER, va="bottom")
    return figure, _alt(shown, cells, len(drawn))


def _heads(figure: Figure, height: float, colours: Colormap, palette: Palette) -> None:
    half = _WIDTH / 2
    for start, title in (
        (_MARGIN, "fullest limit of each core, %"),
        (half + _GAP / 2, "time of each core, % of the busiest core's step"),
    ):
        place = (start / _WIDTH, (height - 0.42) / height, 0.3 * half / _WIDTH, 0.12 / height)
        axes = figure.add_axes(place)
        scale = ScalarMappable(Normalize(0, 100), colours)
        figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=(0, 50, 100))
        axes.tick_params(labelsize=7)
        axes.set_title(title, loc="left", fontsize=9, pad=3, color=palette.ink)


def _panel(
    axes: Axes,
    cells: Sequence[_Cell],
    values: NDArray[np.float64],
    grid: tuple[int, int],
    colours: Colormap,
    palette: Palette,
    every: bool,
) -> None:
    """One chip in one of the two colourings."""
    shares = np.full(grid, np.nan)
    layers = np.zeros(grid, dtype=np.int64)
    for cell, value in zip(cells, values, strict=True):
        shares[cell.row, cell.column] = value
        layers[cell.row, cell.column] = cell.layer
    axes.pcolormesh(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1)
    axes.set_xlim(0, grid[1])
    axes.set_ylim(grid[0], 0)
    axes.set(xticks=range(0, grid[1], _TILE_SIDE), yticks=range(0, grid[0], _TILE_SIDE))
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(color=palette.grid, linewidth=0.8)
    axes.spines[:].set_visible(False)
    for colour, width in (("white", 2.2), ("black", 0.9)):  # seen on bright and on dark cells
        axes.plot(*_borders(layers), color=colour, linewidth=width, solid_capstyle="projecting")
    seen: set[int] = set()
    for cell, value in zip(cells, values, strict=True):
        if every or cell.layer not in seen:
            light = 0.55 < value <= 1  # the upper half of the colours is bright
            axes.text(
                cell.column + 0.5, cell.row + 0.54, str(cell.layer), ha="center", va="center",
                fontsize=7 if every else 5.5, color="black" if light else "white",
            )  # fmt: skip
        seen.add(cell.layer)


def _borders(layers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines between cells of different layers, as one path that NaN interrupts."""
    framed = np.pad(layers, 1)
    x: list[float] = []
    y: list[float] = []
    for row, column in zip(*np.nonzero(framed[:, 1:] != framed[:, :-1]), strict=True):
        x += [column, column, np.nan]
        y += [row - 1, row, np.nan]
    for row, column in zip(*np.nonzero(framed[1:] != framed[:-1]), strict=True):
        x += [column - 1, column, np.nan]
        y += [row, row, np.nan]
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)


def _layer_lines(shown: PlacementFigure) -> list[str]:
    """One line a layer: its number, name, cores and what forced them."""
    layers = shown.placement.layers
    lines = []
    for index, layer in enumerate(layers[:_SHOWN_LAYERS]):
        cores = len(layer.cores)
        forced = _FORCED.get(layer.limit, f", by {layer.limit}")
        broken = [misfit.limit for misfit in shown.placement.misfits if misfit.layer == layer.name]
        if broken:
            forced = f", breaks {broken[0]}{'' if len(broken) == 1 else ', …'}"
        lines.append(
            f"{index + 1}  {clipped(layer.name)}: {cores:,} core{'s' * (cores != 1)}{forced}"
        )
    if len(layers) > _SHOWN_LAYERS:
        lines.append(f"and {len(layers) - _SHOWN_LAYERS} more layers")
    return lines


def _reason_lines(shown: PlacementFigure) -> list[str]:
    """What does not fit, broken into lines."""
    reasons = shown.placement.reasons
    lines = []
    for reason in reasons[:_SHOWN_REASONS]:
        lines += textwrap.wrap(printable(reason), _ACROSS, subsequent_indent="    ")
    if len(reasons) > _SHOWN_REASONS:
        lines.append(f"and {len(reasons) - _SHOWN_REASONS} more reasons")
    return lines


def _list(
    figure: Figure, words: Sequence[str], height: float, palette: Palette, above: int
) -> None:
    """Write words in columns, ``above`` so many lines."""
    lines = -(-len(words) // _COLUMNS)
    for index, line in enumerate(words):
        across = _MARGIN + (index // lines) * (_WIDTH - 2 * _MARGIN) / _COLUMNS
        down = _MARGIN + (above + lines - 1 - index % lines) * _LINE
        figure.text(
            across / _WIDTH, down / height, line, fontsize=7.5, color=palette.ink, va="bottom"
        )


def _alt(shown: PlacementFigure, cells: Sequence[_Cell], drawn: int) -> str:
    placement = shown.placement
    said = [
        f"Cores of {placement.chips} {placement.chip} chip{'s' * (placement.chips != 1)} as grids "
        f"({drawn} drawn), coloured by the fullest limit of each core and by its share of the "
        f"busiest core's time: {placement.cores:,} cores"
    ]
    shares: dict[int, list[_Cell]] = {}
    for cell in cells:
        shares.setdefault(cell.layer, []).append(cell)
    for index, layer in enumerate(placement.layers[:_SHOWN_LAYERS]):
        of_layer = shares[index + 1]
        said.append(
            f"{layer.name} {len(of_layer)} cores, {100 * max(c.full for c in of_layer):.0f} % full "
            f"at most, {100 * max(c.busy for c in of_layer):.0f} % of the time at most"
        )
    if not placement.fits:
        said.append("it does not fit")
    return "; ".join([*said, *placement.reasons])
