"""The report shows the numbers it was given, says what kind they are, and needs nothing else."""

import base64
import copy
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from spikeship.deploy.report.report import ReportFigures, table, write_report

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&'


def row(stage: str, accuracy: float, **figures: Any) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("agreement_with_previous", "num_steps", "chip_steps", "synops", "energy_j", "latency_s")
    )
    return {
        "stage": stage,
        "accuracy": accuracy,
        "correct": round(accuracy * 200),
        "images": 200,
        "ci95": [accuracy - 0.02, accuracy + 0.01],
        **empty,
        **figures,
    }


def layer(name: str, effective: float, connected: float, dense: float) -> dict[str, Any]:
    return {
        "name": name,
        "neurons": 64,
        "spikes": 12.5,
        "synops_effective": effective,
        "synops_connected": connected,
        "synops_dense": dense,
        "neuron_updates": 640.0,
        "messages_in": 1.0,
        "pooled_messages": 1.0,
    }


@pytest.fixture
def comparison() -> dict[str, Any]:
    steps = {"num_steps": 12, "chip_steps": 19, "agreement_with_previous": 0.985}
    cost = {"synops": 61234.4, "energy_j": 4.104e-6, "latency_s": 48.34e-6}
    return {
        "rows": [
            row("ann", 0.985),
            row("converted", 0.9, synops=71000.0, **steps),
            row("integer", 0.975, **steps, **cost),
            row("lava", 0.95, **steps, **cost),
        ],
        "gpu": {
            "kind": "modelled",
            "device": "A100",
            "energy_j": 1.7e-4,
            "latency_s": 3e-6,
            "inferences_per_call": 1,
            "low": 1.7e-4,
            "high": None,
            "idle_power_w": None,
            "assumptions": ["400 W over 312 TFLOP/s (data sheet)"],
        },
        "chip": {
            "chip": "loihi2",
            "num_steps": 12,
            "chip_steps": 19,
            "inferences": 200,
            "synops": {"effective": 61234.4, "connected": 7e4, "dense": 2.5e6},
            "spikes": 900.0,
            "neuron_updates": 12000.0,
            "cycles_per_step": 1873.2,
            "latency_s": 48.34e-6,
            "energy_j": {"dynamic": 3.1e-6, "static": 1.004e-6, "low": 9.1e-7, "high": 2.1e-5},
            "cores": 4,
            "fits": True,
            "layers": [],
            "assumptions": ["a synaptic operation: 23.6 pJ (Davies et al. 2018, Table 2)"],
        },
        "report": None,
    }


@pytest.fixture
def figures() -> ReportFigures:
    spikes = np.zeros((19, 64), dtype=bool)
    spikes[3, 5] = spikes[4, 5] = spikes[18, 63] = True
    return ReportFigures(
        accuracy_by_step={"converted": [0.2, 0.6, 0.9], "integer": [0.3, 0.8, 0.975]},
        synops_by_layer=[layer("conv1", 4e4, 5e4, 2e6), layer("fc", 0, 120, 5e5)],
        raster={"relu1": spikes, "relu2": ~spikes},
        raster_label="test image 3 (a seven)",
    )


class Page(HTMLParser):
    """Rows of table cells, pictures, addresses and tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str | None] = []
        self.tags: set[str] = set()
        self.inside = False
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data

    def find(self, name: str) -> list[str]:
        """Cells of the first table row that starts with ``name``."""
        return next(cells[1:] for cells in self.rows if cells and cells[0].strip() == name)


def picture(page: Page, index: int) -> ElementTree.Element:
    source = page.images[index]["src"]
    assert source is not None
    kind, _, encoded = source.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(encoded))


def printed(comparison: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(comparison))
    return console.export_text()


def test_stages_stand_in_the_table_with_a_dash_for_nothing(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    path = write_report(comparison, figures, tmp_path / "report.html")
    assert path == tmp_path / "report.html" and path.is_absolute()
    page = Page(path)
    assert page.find("ANN") == ["98.5 %", "96.5–99.5 %", "200", *["–"] * 7]
    assert page.find("Integers") == [
        *("97.5 %", "95.5–98.5 %", "200", "98.5 %", "12", "19", "61,234"),
        *("4.1 µJ", "0.91–21 µJ", "48.3 µs"),
    ]
    assert page.find("Converted")[-4:] == ["71,000", "–", "–", "–"]


def test_chip_and_gpu_stand_apart_each_with_its_kind(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    path = write_report(comparison, figures, tmp_path / "report.html")
    html, page = path.read_text(encoding="utf-8"), Page(path)
    chip, gpu = re.split(r"<h3>GPU reference", html.split("<h3>Loihi 2")[1])[:2]
    assert ">estimated<" in chip and "modelled" not in chip
    assert "4.1 µJ" in chip and "3.1 µJ" in chip
    gpu = gpu.split("</section>")[0]
    assert ">modelled<" in gpu and "170 µJ or more" in gpu and "estimated" not in gpu
    assert page.find("power of the idle GPU") == ["–"]
    for source in ("Davies et al. 2018, Table 2", "400 W over 312 TFLOP/s (data sheet)"):
        assert source in page.text

    comparison["gpu"] |= {"kind": "measured", "high": 3.4e-4, "idle_power_w": 71.5}
    page = Page(write_report(comparison, figures, path))
    assert page.find("its range") == ["0.91–21 µJ"]
    assert page.find("power of the idle GPU") == ["71.5 W"]
    assert "170–340 µJ" in page.text
    stages = page.text.split("What the words mean")[0].split("Stages")[1]
    assert "measured" in stages and "modelled" not in stages


def test_what_the_ann_takes_never_stands_in_the_chip_s_columns(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    comparison["rows"][0] |= {"energy_j": 1.7e-4, "latency_s": 3e-6}
    comparison["rows"][3]["energy_j"] = 5e-6  # not the chip's estimate, so not its range
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    assert page.find("ANN")[-3:] == ["–"] * 3
    assert page.find("Lava")[-3:] == ["5 µJ", "–", "48.3 µs"]


def test_a_network_that_does_not_fit_says_so(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    comparison["chip"] |= {"fits": False, "cores": 131}
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    assert page.find("cores") == ["131 (does not fit)"]


def test_page_refers_to_nothing_outside_itself(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    assert page.addresses and all(str(address).startswith("data:") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object"}
    for index in range(3):
        for element in picture(page, index).iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith("#")


def test_every_picture_says_what_it_shows(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    accuracy, synops, raster = (image["alt"] or "" for image in page.images)
    assert "accuracy against time steps" in accuracy
    assert "Integers 97.5 % after 3 steps" in accuracy and "ANN 98.5 %" in accuracy
    assert "conv1 40,000 effective, 50,000 connected, 2,000,000 dense" in synops
    assert "relu1 3 spikes of 64 neurons" in raster and "19 chip steps" in raster


def dashes(drawn: ElementTree.Element, colour: str) -> int:
    """Line segments drawn in one colour."""
    return sum(
        path.attrib["d"].count("M")
        for path in drawn.iter(f"{SVG}path")
        if f"stroke: var(--{colour})" in path.attrib.get("style", "") and "clip-path" in path.attrib
    )


def test_raster_draws_one_dash_a_spike(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    drawn = picture(page, 2)
    assert dashes(drawn, "one") == 3
    assert dashes(drawn, "two") == 19 * 64 - 3


def test_large_layers_are_thinned_out_and_say_so(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    big = ReportFigures(
        figures.accuracy_by_step,
        figures.synops_by_layer,
        {"relu1": np.ones((90, 65536), dtype=bool)},
        "image 0",
    )
    path = write_report(comparison, big, tmp_path / "report.html")
    drawn = picture(Page(path), 2)
    assert dashes(drawn, "one") == 90 * 64
    words = {"".join(text.itertext()).strip() for text in drawn.iter(f"{SVG}text")}
    assert {"relu1, 64 of 65,536 neurons shown", "65,535"} <= words
    assert path.stat().st_size < 2_000_000


def test_a_layer_without_operations_is_said_in_the_logarithmic_picture(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    drawn = picture(Page(write_report(comparison, figures, tmp_path / "report.html")), 1)
    words = ["".join(text.itertext()).strip() for text in drawn.iter(f"{SVG}text")]
    assert words.count("0") == 1
    assert {"conv1", "fc", "effective", "connected", "dense", "1 k", "1 M"} <= set(words)


def test_names_from_users_stay_text(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    comparison["chip"]["chip"] = comparison["gpu"]["device"] = HOSTILE
    comparison["chip"]["assumptions"] = [HOSTILE]
    comparison["rows"].append(row(HOSTILE, 0.5))
    hostile = ReportFigures(
        {HOSTILE: [0.5]},
        [layer(HOSTILE, 1, 2, 3)],
        {HOSTILE: np.eye(4, dtype=bool), "$x$": np.eye(4, dtype=bool)},
        HOSTILE,
    )
    path = write_report(comparison, hostile, tmp_path / "report.html")
    page = Page(path)
    assert "script" not in page.tags
    assert "<script" not in path.read_text(encoding="utf-8")
    assert page.find(HOSTILE)[0] == "50.0 %"
    assert [HOSTILE in (image["alt"] or "") for image in page.images] == [True] * 3
    for index in range(3):
        assert not list(picture(page, index).iter(f"{SVG}script"))
    assert HOSTILE in printed(comparison, 200)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (3.2e-10, "320 ps"),
        (4e-14, "0.04 ps"),
        (9.996e-4, "1 ms"),
        (1.5, "1.5 s"),
        (1234.0, "1,230 s"),
        (None, "–"),
    ],
)
def test_numbers_carry_three_digits_and_a_prefix(
    comparison: dict[str, Any],
    figures: ReportFigures,
    tmp_path: Path,
    seconds: float | None,
    words: str,
) -> None:
    comparison["rows"][2]["latency_s"] = seconds
    page = Page(write_report(comparison, figures, tmp_path / "report.html"))
    assert page.find("Integers")[-1] == words


def test_lava_s_agreement_is_told(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert "spike for spike" not in Page(write_report(comparison, figures, path)).text
    verify = {"images": 20, "spikes_compared": 181234, "spikes_equal": True}
    equal = Page(
        write_report(comparison | {"verify": verify | {"first_difference": None}}, figures, path)
    )
    assert "agree spike for spike: 181,234 spikes" in equal.text
    difference = "image 0, layer 'relu1', chip step 3"
    verify |= {"spikes_equal": False, "first_difference": difference}
    page = Page(write_report(comparison | {"verify": verify}, figures, path))
    assert "differ." in page.text and difference in page.text
    assert "agree spike for spike" not in page.text


def test_a_report_that_fails_leaves_the_old_one(
    comparison: dict[str, Any],
    figures: ReportFigures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_report(comparison, figures, tmp_path / "report.html")
    before = path.read_bytes()

    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    comparison["chip"]["cores"] = 5
    with pytest.raises(OSError, match="no room left"):
        write_report(comparison, figures, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_comparison_gives_the_same_bytes(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    untouched = copy.deepcopy(comparison)
    first = write_report(comparison, figures, tmp_path / "a.html").read_bytes()
    assert write_report(comparison, figures, tmp_path / "b.html").read_bytes() == first
    assert comparison == untouched


def test_the_cores_are_drawn_where_a_placement_is_given(
    comparison: dict[str, Any], figures: ReportFigures, tmp_path: Path
) -> None:
    from dataclasses import replace

    from estimate_cases import many_cores

    from spikeship.deploy.report.placement_picture import PlacementFigure
    from spikeship.hw_models import chips

    without = Page(write_report(comparison, figures, tmp_path / "without.html"))
    shown = PlacementFigure(many_cores(2, 3), chips.get("loihi1"), [0.5] * 6)
    page = Page(write_report(comparison, replace(figures, placement=shown), tmp_path / "with.html"))
    assert len(page.images) == len(without.images) + 1
    assert "Cores of Loihi 2" in page.text and "Cores of" not in without.text
    assert "layer1 3 cores" in str(page.images[2]["alt"])


def test_rasters_that_do_not_belong_together_are_refused(figures: ReportFigures) -> None:
    uneven = {"a": np.zeros((3, 4), dtype=bool), "b": np.zeros((4, 4), dtype=bool)}
    with pytest.raises(ValueError, match="differ in chip steps"):
        ReportFigures({}, [], uneven, "")
    with pytest.raises(ValueError, match="each node needs"):
        ReportFigures({}, [], {"a": np.zeros((1, 3, 4), dtype=bool)}, "")


def test_terminal_table_fits_eighty_columns(comparison: dict[str, Any]) -> None:
    text = printed(comparison)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    (integers,) = (line for line in lines if line[:1] == ["Integers"])
    assert integers == [
        "Integers",
        "97.5",
        "%",
        "200",
        "12",
        "19",
        "61,234",
        "4.1",
        "µJ",
        "48.3",
        "µs",
    ]
    (ann,) = (line for line in lines if line[:1] == ["ANN"])
    assert ann[3:] == ["200", "–", "–", "–", "–", "–"]
    assert "95.5–98.5 %" in text and "0.91–21 µJ" in text
    assert "estimated for Loihi 2" in text
    assert "GPU reference, modelled: 170 µJ an inference, 3 µs a call" in text
