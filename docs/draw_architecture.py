"""Draw docs/figures/architecture.svg: every package on its floor, and who imports whom.

Folders and floors come from the import contracts in pyproject.toml, arrows from the import
statements, the words from each package's docstring. ``python docs/draw_architecture.py`` writes
the picture; ``tests/test_architecture.py`` fails where it is no longer what the code says.
"""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "figures" / "architecture.svg"
TITLE = "The packages of Spikeship on their floors, with arrows to what each one imports"
WORDS = (
    "An arrow leads from a package to one that it imports. Those that follow from others are left "
    "out.",
    "A label at the right names a lower folder that the package imports too. A dashed box is one "
    "file.",
)

WIDTH, EDGE, GAP = 1000, 28, 26  # of the picture, of a folder's inside, between boxes
BOX_WIDTHS = {1: 440, 2: 400, 3: 290}  # by the number of boxes on a floor
NARROW = 216  # where there are more
STEP = 34  # between floors
NAME, LINE = 18, 14  # heights of a name and of a line of words
LETTER = 6.5  # mean width of a letter of the words
COLOURS = ("#e8f0fb", "#fdf1e0", "#e9f5ea", "#f3ecf8")
DARK = ("#2f5d9b", "#9a6516", "#3b7a41", "#6d4791")

Import = tuple[str, str]
Way = list[tuple[float, float]]


@dataclass(frozen=True)
class Folder:
    """A folder of the layers contract.

    Attributes:
        name: its dotted name.
        floors: dotted names of what stands on each of its floors, the highest floor first.
    """

    name: str
    floors: tuple[tuple[str, ...], ...]


@dataclass
class Box:
    """A package or file as it is drawn; corners and sizes in pixels."""

    name: str
    words: str
    is_file: bool
    inner: list["Box"]
    labels: list[tuple[str, str]] = field(default_factory=list)  # of lower folders: text, colour
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0

    @property
    def middle(self) -> float:
        """Where its middle lies, from left to right."""
        return self.x + self.width / 2

    @property
    def lines(self) -> list[str]:
        """The words in lines that fit the width."""
        most, lines = int((self.width - 20) / LETTER), [""]
        for word in self.words.split():
            longer = f"{lines[-1]} {word}".strip()
            if len(longer) <= most:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    @property
    def needed(self) -> float:
        """Height that its name, its words and what is inside need."""
        own = 12 + NAME + LINE * len(self.lines)
        return own + (8 + max(one.needed for one in self.inner) if self.inner else 0)


def last(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


def is_in(name: str, package: str) -> bool:
    """Whether a dotted name is the package or something in it."""
    return name == package or name.startswith(f"{package}.")


class Project:
    """What pyproject.toml says of the packages, and what their files import."""

    def __init__(self, root: Path) -> None:
        tool: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]
        self.root = root
        self.packages: list[str] = tool["setuptools"]["packages"]
        self.places: dict[str, str] = tool["setuptools"]["package-dir"]
        contracts = [one for one in tool["importlinter"]["contracts"] if one["type"] == "layers"]
        order = next(one["layers"] for one in contracts if not one.get("containers"))
        inside = {
            container: tuple(
                tuple(f"{container}.{name.strip(' ()')}" for name in floor.split("|"))
                for floor in one["layers"]
            )
            for one in contracts
            for container in one.get("containers", ())
        }
        self.folders = [Folder(name, inside[name]) for name in order]
        # a package outside the folders is a door to all of them
        doors = tuple(name for name in self.packages if not any(is_in(name, f) for f in order))
        if doors:
            self.folders.insert(0, Folder("", (doors,)))
        self.files = dict(self._files())

    def path(self, name: str) -> Path:
        """Where a dotted name lies, without a suffix."""
        mapped = max((one for one in self.places if is_in(name, one)), key=len)
        rest = name[len(mapped) + 1 :].split(".") if name != mapped else []
        return self.root.joinpath(self.places[mapped], *rest)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for package in self.packages:
            for path in sorted(self.path(package).glob("*.py")):
                yield (package if path.stem == "__init__" else f"{package}.{path.stem}"), path

    def words(self, name: str) -> str:
        """First line of a package's or module's docstring."""
        path = self.files.get(name) or self.path(name) / "__init__.py"
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        return text.partition("\n")[0]

    def imports(self, units: Iterable[str]) -> set[Import]:
        """Pairs of units, of which the first imports the second, in any of its files."""
        units = tuple(units)

        def unit(name: str) -> str | None:
            # a door holds nothing but itself
            held = (one for one in units if one == name or ("." in one and is_in(name, one)))
            return max(held, key=len, default=None)

        found = set()
        for module, path in self.files.items():
            reader = unit(module)
            for name in self._imported(ast.parse(path.read_text())):
                read = unit(name)
                if reader and read and reader != read:
                    found.add((reader, read))
        return found

    def _imported(self, tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in self.files else node.module


def reduced(imports: set[Import]) -> list[Import]:
    """The imports that do not follow from others, in order."""
    below: dict[str, set[str]] = defaultdict(set)
    for reader, read in imports:
        below[reader].add(read)

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for read in below[waiting.pop()] - seen:
                seen.add(read)
                waiting.append(read)
        return seen

    return sorted(
        (reader, read)
        for reader, read in imports
        if not any(read in reached(other) for other in below[reader] - {read})
    )


class Picture:
    """Boxes laid out from the highest floor down, and the SVG of them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.imports = project.imports(
            name for folder in project.folders for floor in folder.floors for name in floor
        )
        self.parts: list[str] = []
        self.bands: list[tuple[Folder, float, float]] = []
        self.rows: dict[str, list[list[Box]]] = {}
        y = 64.0
        for folder in project.folders:
            top = y
            y += 44 if folder.name else 14
            self.rows[folder.name] = [self._boxes(folder, floor) for floor in folder.floors]
            for row in self.rows[folder.name]:
                y = _laid_out(row, y) + STEP
            y += 14 - STEP
            self.bands.append((folder, top, y - top))
            y += STEP
        self.height = y - STEP + 14

    def _boxes(self, folder: Folder, floor: Sequence[str]) -> list[Box]:
        boxes = []
        for name in floor:
            box = self._box(name)
            for place, other in enumerate(self.project.folders):
                if other.name and other is not folder:
                    reads = any(a == name and is_in(b, other.name) for a, b in self.imports)
                    box.labels += [(last(other.name), DARK[place])] if reads else []
            boxes.append(box)
        return boxes

    def _box(self, name: str) -> Box:
        nested = [self._box(one) for one in self.project.packages if one.rpartition(".")[0] == name]
        is_file = not self.project.path(name).is_dir()
        return Box(name, self.project.words(name), is_file, nested if "." in name else [])

    def svg(self) -> str:
        """The whole picture."""
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" '
            'role="img" aria-labelledby="title description" '
            'font-family="Helvetica, Arial, sans-serif" fill="#222">',
            f'<title id="title">{escape(TITLE)}</title>',
            f'<desc id="description">{escape(self.described())}</desc>',
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{self.height:.0f}" fill="#fff"/>',
            *(_text(EDGE, 24 + 18 * i, line, 12.5) for i, line in enumerate(WORDS)),
        ]
        for place, (folder, top, height) in enumerate(self.bands):
            self._band(place, folder, top, height)
        for (_, top, height), (_, below, _) in zip(self.bands, self.bands[1:], strict=False):
            self.parts.append(
                f'<path d="M{WIDTH / 2:.0f} {top + height:.0f}V{below - 3:.0f}" stroke="#555" '
                'stroke-width="3" marker-end="url(#head)"/>'
            )
        for folder, _, _ in self.bands:
            self._arrows(self.rows[folder.name])
            for row in self.rows[folder.name]:
                for box in row:
                    self._draw(box)
        return "\n".join([*self.parts, "</svg>", ""])

    def described(self) -> str:
        """The floors in words, for those who do not see the picture."""
        said = []
        for folder, _, _ in self.bands:
            floors = "; ".join(
                ", ".join(last(name) for name in floor) for floor in reversed(folder.floors)
            )
            said.append(f"{last(folder.name) or 'on top'}, from the lowest floor up: {floors}.")
        return " ".join(reversed(said))

    def _band(self, place: int, folder: Folder, top: float, height: float) -> None:
        self.parts.append(
            f'<rect id="{folder.name}" x="8" y="{top:.0f}" width="{WIDTH - 16}" '
            f'height="{height:.0f}" rx="10" '
            f'fill="{COLOURS[place]}" stroke="{DARK[place]}"/>'
        )
        if folder.name:
            words = f"{last(folder.name)}/"
            self.parts.append(_text(EDGE, top + 26, words, 18, "bold", DARK[place]))
            said = self.project.words(folder.name)
            self.parts.append(_text(EDGE + 126, top + 26, said, 13, colour=DARK[place]))

    def _draw(self, box: Box) -> None:
        dashes = ' stroke-dasharray="5 3"' if box.is_file else ""
        self.parts.append(
            f'<g id="{box.name}"><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="5" fill="#fff" stroke="#555"{dashes}/>'
        )
        name = last(box.name) + (".py" if box.is_file else "")
        self.parts.append(_text(box.x + 10, box.y + NAME, name, 14, "bold"))
        right = box.x + box.width - 8
        for words, colour in reversed(box.labels):
            width = 5.8 * len(words) + 8
            right -= width
            self.parts.append(
                f'<rect x="{right:.1f}" y="{box.y + 6:.1f}" width="{width:.1f}" height="15" rx="7" '
                f'fill="{colour}"/>'
                + _text(right + width / 2, box.y + 17, words, 9.5, colour="#fff", middle=True)
            )
            right -= 4
        for i, line in enumerate(box.lines):
            self.parts.append(_text(box.x + 10, box.y + NAME + LINE * (i + 1), line, 11.5))
        for one in box.inner:
            self._draw(one)
        self.parts.append("</g>")

    def _arrows(self, rows: list[list[Box]]) -> None:
        """Arrows between the boxes of a folder, around those in between."""
        places = {box.name: (i, box) for i, row in enumerate(rows) for box in row}
        inside = {(a, b) for a, b in self.imports if a in places and b in places}
        used: list[set[float]] = [set() for _ in rows]
        ways: dict[Import, Way] = {}
        for reader, read in reduced(inside):
            (first, upper), (final, lower) = places[reader], places[read]
            start, end = upper.middle, lower.middle
            way: Way = []
            for i in range(first + 1, final):
                wish = start + (end - start) * (i - first) / (final - first)
                x = _free(rows[i], wish, used[i])
                way += [(x, rows[i][0].y), (x, rows[i][0].y + rows[i][0].height)]
            ways[reader, read] = way
        ports = _ports(ways, {name: box for name, (_, box) in places.items()})
        for pair, way in ways.items():
            (_, upper), (_, lower) = places[pair[0]], places[pair[1]]
            leaves, enters = ports[pair, 0], ports[pair, 1]
            points = [(leaves, upper.y + upper.height), *way, (enters, lower.y - 1)]
            self.parts.append(
                f'<path d="{_curve(points)}" fill="none" stroke="#555" stroke-width="1.3" '
                'marker-end="url(#head)"/>'
            )


def _laid_out(row: list[Box], y: float) -> float:
    """Give the boxes of a floor their places; returns where the floor ends."""
    width = BOX_WIDTHS.get(len(row), NARROW)
    for box in row:
        box.width = max(width, 20 + 158 * len(box.inner))
        for one in box.inner:
            one.width = (box.width - 12 - 8 * len(box.inner)) / len(box.inner)
    spare = WIDTH - 2 * EDGE - GAP * (len(row) - 1) - sum(box.width for box in row)
    if spare < 0:  # a wide box takes its room from the others
        others = [box for box in row if not box.inner]
        for box in others:
            box.width += spare / len(others)
        spare = 0
    x = EDGE + spare / 2
    height = max(box.needed for box in row)
    for box in row:
        box.x, box.y, box.height = x, y, height
        inner = max((one.needed for one in box.inner), default=0)
        for i, one in enumerate(box.inner):
            one.x, one.y = x + 10 + i * (one.width + 8), y + height - 8 - inner
            one.height = inner
        x += box.width + GAP
    return y + height


def _free(row: list[Box], wish: float, used: set[float]) -> float:
    """Where an arrow passes a floor: between its boxes, near where it would like to."""
    edges = [EDGE - 14, *(x for box in row for x in (box.x, box.x + box.width)), WIDTH - EDGE + 14]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    ways = [x for left, right in gaps for x in range(int(left) + 7, int(right) - 6)]
    free = [x for x in ways if all(abs(x - other) >= 6 for other in used)] or ways
    best = float(min(free, key=lambda x: (abs(x - wish), x)))
    used.add(best)
    return best


def _ports(ways: dict[Import, Way], boxes: dict[str, Box]) -> dict[tuple[Import, int], float]:
    """Where each arrow leaves (0) and enters (1) its boxes: spread over their middle half.

    Those of one side of a box stand in the order of where they go, so that they do not cross.
    """
    ports = {}
    for end in (0, 1):
        groups: dict[str, list[tuple[float, Import]]] = defaultdict(list)
        for pair, way in ways.items():
            ahead = way[-end][0] if way else boxes[pair[1 - end]].middle
            groups[pair[end]].append((ahead, pair))
        for name, group in groups.items():
            box = boxes[name]
            for i, (_, pair) in enumerate(sorted(group)):
                ports[pair, end] = box.x + box.width * (0.25 + 0.5 * (i + 1) / (len(group) + 1))
    return ports


def _curve(points: Way) -> str:
    """A way through the points that is upright at each of them."""
    (x, y), *others = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for i, (to_x, to_y) in enumerate(others):
        if i % 2:  # down beside a box
            parts.append(f"V{to_y:.1f}")
        else:
            half = (y + to_y) / 2
            parts.append(f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return "".join(parts)


def _text(
    x: float,
    y: float,
    words: str,
    size: float,
    weight: str = "normal",
    colour: str = "#222",
    middle: bool = False,
) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" font-weight="{weight}" '
        f'fill="{colour}"{anchor}>{escape(words, quote=False)}</text>'
    )


def draw(root: Path = ROOT) -> str:
    """The picture of a source tree, the same for the same sources."""
    return Picture(Project(root)).svg()


if __name__ == "__main__":
    PICTURE.write_text(draw())
