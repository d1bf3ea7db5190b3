"""Mesh: which chip and which router a core has."""

from spikeship.hw_models.chips.spec import ChipSpec


def chip_and_tile(index: int, chip: ChipSpec) -> tuple[int, tuple[int, int]]:
    """Chip and tile (x, y) of the placement's core of this index.

    Cores fill a tile, tiles a row of the mesh, and every second row runs back, so that cores that
    follow each other lie side by side.
    """
    on_chip, core = divmod(index, chip.cores_per_chip.value)
    y, x = divmod(core // chip.cores_per_tile.value, chip.mesh_width.value)
    return on_chip, (x if y % 2 == 0 else chip.mesh_width.value - 1 - x, y)
