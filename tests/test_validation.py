"""The validation command: its sums by hand, its fit on planted numbers, its limits, its files."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from spikeship.deploy.cli.app import main
from spikeship.deploy.validation import tables, validate
from spikeship.deploy.validation.activity import rates_of
from spikeship.deploy.validation.comparison import CORRECTED, TIME, TOTAL, tally, verdicts
from spikeship.deploy.validation.firing_patterns import (
    EVEN,
    FIRST,
    ONE,
    PATH,
    PATTERNS,
    TO_FIRST,
    Pattern,
    _moved,
)
from spikeship.deploy.validation.fit import (
    IDLE_RISE_W,
    Calibration,
    Case,
    ChipCost,
    Span,
    calibrate,
    corrected,
    leave_one_out,
    predict,
    rise,
)
from spikeship.deploy.validation.patterns_alone import between, members
from spikeship.deploy.validation.placed_workload import case_of
from spikeship.deploy.validation.rows import Row, read_rows
from spikeship.hw_models import chips
from spikeship.hw_models.chips.host import LOIHI1_HOST, LOIHI1_IDLE_RISE
from spikeship.hw_models.placement.placement import PlacementError
from spikeship.hw_models.placer.place import place

DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"
BRANCHES = (0, 1, 2, 4, 6, 8, 10)


@pytest.fixture(scope="module")
def published() -> dict[str, Row]:
    return {row.name: row for row in read_rows(validate.BLOUW, shipped=True)}


@pytest.fixture(scope="module")
def seven(published: dict[str, Row]) -> list[Case]:
    return [case_of(row) for row in published.values() if row.calibrate]


@pytest.fixture(scope="module")
def found(seven: list[Case]) -> Calibration:
    return calibrate(seven)


def test_the_rows_are_the_seven_and_the_keyword_spotter(published: dict[str, Row]) -> None:
    assert list(published) == [*(f"branches-{n:02d}" for n in BRANCHES), "keyword"]
    assert [row.calibrate for row in published.values()] == [True] * 7 + [False]
    # inferences a second and dynamic millijoules as the paper's logs give them
    known = {
        "branches-00": (125.8, 0.6195),
        "branches-10": (114.0, 0.8357),
        "keyword": (296, 0.272),
    }
    for name, (per_second, millijoules) in known.items():
        measured = published[name].measured
        assert 1 / measured.time_s == pytest.approx(per_second, rel=2e-3)
        assert measured.energy_j["dynamic"] * 1e3 == pytest.approx(millijoules, rel=1e-3)
        assert measured.idle_rise_w == pytest.approx(0.0667, abs=2e-4)


@pytest.mark.parametrize("n", BRANCHES)
def test_layers_lie_on_the_cores_that_the_file_names_say(seven: list[Case], n: int) -> None:
    placement = seven[BRANCHES.index(n)].chip.placement
    cores = {layer.name: len(layer.cores) for layer in placement.layers}
    assert (cores.pop("first"), cores.pop("last")) == (8, 8)
    assert list(cores.values()) == [1] * 10 * n
    assert placement.chips == 1
    assert sum(core.neurons for layer in placement.layers for core in layer.cores) == (
        (2 + 10 * n) * 256
    )


def test_known_cores_are_of_the_graphs_own_layers(seven: list[Case]) -> None:
    graph = seven[0].chip.network.graph
    spec = chips.get("loihi1")
    with pytest.raises(PlacementError, match="there is no layer 'other'"):
        place(graph, spec, layer_cores={"other": 2})
    placed = place(graph, spec, layer_cores={"last": 7}).layers
    assert [len(layer.cores) for layer in placed] == [1, 7]
    assert sum(core.neurons for core in placed[1].cores) == 256


def test_energy_and_time_by_hand(seven: list[Case]) -> None:
    rate, steps, n = 0.05, 10, 2
    case, spec = seven[BRANCHES.index(n)], chips.get("loihi1")
    pairs = 256 * 256
    # input to first, first to both branches, nine more in each, both branches to last
    synops = rate * steps * (390 * 256 + pairs * (n + 9 * n + n))
    updates = steps * 256 * (2 + 10 * n)
    spikes = rate * updates
    sent = rate * steps * 256 * (n + 9 * n + 8 * n)  # a branch's end sends to eight cores
    work = case.chip.estimate(rate).work
    hops = work.hops_x.sum() * spec.energy.hop_x.value + work.hops_y.sum() * spec.energy.hop_y.value
    price = spec.energy
    joules = (
        synops * price.synop_dense.value
        + updates * price.neuron_update.value
        + spikes * price.spike_out.value
        + sent * price.message_out.value
        + hops
    )
    assert case.chip(rate).dynamic_j.value == pytest.approx(joules, rel=1e-6)
    assert 0 < hops < 0.02 * joules
    # the busiest core: a branch's last layer, which sends every spike eight times
    slow = spec.time
    seconds = (
        rate * pairs * slow.synop_dense.value
        + 256 * slow.neuron_update.value
        + rate * 256 * (slow.spike_out.value + 8 * slow.message_out.value)
        + rate * 256 * slow.message_in.value
    )
    tiles = -(-(16 + 10 * n) // 4)
    barrier = spec.barrier(tiles).value
    assert case.chip(rate).time_s.value == pytest.approx(steps * (seconds + barrier), rel=1e-6)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_work_between_two_estimates_is_the_estimate(
    seven: list[Case], found: Calibration, pattern: Pattern
) -> None:
    rate = found.rate.value
    assert rate * PATH < 1  # else a layer would fire more than once a step
    for case in (seven[0], seven[2]):
        energy = case.chip.estimate(rate, pattern).energy
        said = case.chip(rate, pattern).dynamic_j
        assert said.value == pytest.approx(energy.dynamic, rel=1e-5)
        ends = [sum(getattr(p, end) for p in energy.components.values()) for end in ("low", "high")]
        assert [said.low, said.high] == pytest.approx(ends, rel=1e-5)
    throughput = seven[2].chip.estimate(rate, pattern).throughput_per_s
    assert seven[2].chip(rate, pattern).time_s.value == pytest.approx(1 / throughput, rel=1e-5)


@dataclass(frozen=True)
class Planted:
    """A chip whose cost is a straight line in the rate."""

    size: float

    def __call__(self, rate: float, pattern: Pattern = EVEN) -> ChipCost:
        joules = self.size * (1e-6 + rate * 1e-4)
        exact = [Span(value, value, value) for value in (self.size * rate * 1e-3, joules, 0.1)]
        return ChipCost(*exact)


def planted(row: Row, rate: float, host_s: float, host_j: float) -> list[Case]:
    cases = []
    for size in (0.5, 1, 2, 5):
        cost = Planted(size)(rate)
        seconds = host_s + cost.time_s.value
        joules = host_j + cost.dynamic_j.value + IDLE_RISE_W * seconds
        measured = replace(row.measured, time_s=seconds, energy_j={"dynamic": joules})
        cases.append(Case(replace(row, measured=measured), Planted(size)))
    return cases


def test_the_fit_finds_planted_numbers(published: dict[str, Row]) -> None:
    cases = planted(published["branches-01"], 0.07, 3e-3, 2e-5)
    fitted = calibrate(cases)
    for span, value in (
        (fitted.rate, 0.07),
        (fitted.host_time_s, 3e-3),
        (fitted.host_energy_j, 2e-5),
    ):
        assert [span.value, span.low, span.high] == pytest.approx([value] * 3, rel=1e-9)
    assert fitted.fits[0].off_j == pytest.approx(0, abs=1e-12)
    joules = {"dynamic": cases[0].row.measured.energy_j["dynamic"] + 4e-6}
    off = replace(cases[0].row, measured=replace(cases[0].row.measured, energy_j=joules))
    moved = calibrate([Case(off, cases[0].chip), *cases[1:]]).fits[0].off_j
    assert 5e-7 < moved < 2e-6  # of 4 uJ in one row of four, what a line leaves over
    for case, said in leave_one_out(cases):
        assert said.time_s.value == pytest.approx(case.row.measured.time_s, rel=1e-9)
        assert said.total_j.value == pytest.approx(case.row.measured.energy_j["dynamic"], rel=1e-9)


def test_a_row_left_out_says_nothing_of_itself(seven: list[Case]) -> None:
    out = seven[3]
    measured = replace(out.row.measured, time_s=1.0, energy_j={"dynamic": 1.0})
    other = Case(replace(out.row, measured=measured), out.chip)
    changed = [other if case is out else case for case in seven]
    assert leave_one_out(changed)[3][1] == leave_one_out(seven)[3][1]
    assert leave_one_out(changed)[2][1] != leave_one_out(seven)[2][1]


def test_every_row_left_out_is_within_the_limits(seven: list[Case]) -> None:
    compared = validate.left_out(seven, IDLE_RISE_W)
    assert len(compared) == 21
    assert verdicts(compared) == []
    for one in compared:
        assert one.inside
        assert abs(one.error) <= {TIME: 0.10, CORRECTED: 0.15, TOTAL: 0.15}[one.quantity]
        assert one.estimate.low < one.estimate.value < one.estimate.high
    assert [one.measured for one in compared if one.quantity == CORRECTED] == [
        pytest.approx(corrected(case.row, 0.070)) for case in seven
    ]


def test_misses_are_said_with_their_size(seven: list[Case]) -> None:
    compared = validate.left_out(seven, IDLE_RISE_W)
    low = replace(compared[0], measured=compared[0].estimate.low / 1.5)
    (line,) = verdicts([low, *compared[1:]])
    assert line.startswith("branches-00, time: error +")
    assert "beyond 10%" in line and "outside the range by 50.0% of it" in line


def test_the_hosts_constants_hold_both_readings_of_idle(
    found: Calibration, seven: list[Case]
) -> None:
    logged = validate.idle_rise([case.row for case in seven])
    instead = calibrate(seven, logged)
    for constant, span, other in (
        (LOIHI1_HOST.seconds, found.host_time_s, instead.host_time_s),
        (LOIHI1_HOST.joules, found.host_energy_j, instead.host_energy_j),
    ):
        hull = (span.value, min(span.low, other.low), max(span.high, other.high))
        said = [constant.value, constant.low, constant.high]
        assert said == [float(f"{end:.4g}") for end in hull]
        assert constant.low < other.value < constant.high
        assert constant.source.startswith("calibrated by `spikeship validate`")
    assert LOIHI1_HOST.num_steps == seven[0].row.workload.steps == 10
    assert float(f"{logged:.3g}") == LOIHI1_IDLE_RISE.low
    assert LOIHI1_IDLE_RISE.value == IDLE_RISE_W == 0.070
    assert chips.get("loihi1").host == LOIHI1_HOST


def test_both_readings_of_idle_are_in_the_total(seven: list[Case]) -> None:
    assert rise() == Span(0.070, 0.0667, 0.070)
    assert rise(0.0667).high == 0.070
    for case, said in leave_one_out(seven[:4]):
        low = said.corrected_j.low + 0.0667 * said.time_s.low
        high = said.corrected_j.high + 0.070 * said.time_s.high
        assert [said.total_j.low, said.total_j.high] == pytest.approx([low, high]), case.row.name


def test_rate_and_price_of_an_operation_cannot_be_told_apart(found: Calibration) -> None:
    # patterns that share the sum of rates along a way fit nearly the same slope
    rates = [fit.rate.value for fit in found.fits]
    assert max(rates) / min(rates) < 1.1
    assert found.host_time_s.low < 0.9 * found.host_time_s.value


def test_one_pattern_alone_holds_the_row_without_branches(seven: list[Case]) -> None:
    alone = members(seven)
    assert [each.pattern for each in alone] == [pattern.name for pattern in PATTERNS]
    assert [each.pattern for each in alone if each.holds] == [TO_FIRST[1].name]
    assert {each.time.row for each in alone} == {"branches-00"}
    even, *first = alone[:5]
    assert not even.time.inside and not even.energy.inside
    # the busier the first layer, the shorter and the costlier the row, on the branches' account
    assert all(
        a.time.estimate.value > b.time.estimate.value for a, b in zip(alone, first, strict=False)
    )
    assert all(
        a.energy.estimate.value < b.energy.estimate.value
        for a, b in zip(alone, first, strict=False)
    )
    assert even.first == even.branches and first[-1].branches == 0
    for each in alone:
        assert each.first + 10 * each.branches == pytest.approx(PATH * even.first, rel=0.1)
    logged = validate.idle_rise([case.row for case in seven])
    assert not any(each.holds for each in members(seven, logged))
    said = "\n".join(tables.members(alone, IDLE_RISE_W))
    assert "branches-00 lies inside: 50% in the first layer" in said
    bare = [replace(each, time=replace(each.time, measured=1.0)) for each in alone]
    assert between(bare) is None
    text = "\n".join(tables.members(bare, IDLE_RISE_W))
    assert "inside: none of them" in text and "no share in the first layer" in text


def test_between_the_patterns_straight_lines_find_what_a_fit_finds(seven: list[Case]) -> None:
    out, others = seven[0], seven[1:]
    for watts in (IDLE_RISE_W, validate.idle_rise([case.row for case in seven])):
        shares = between(members(seven, watts))
        assert shares is not None and 0.45 < shares[0] < shares[1] < 0.6
        middle, off = (shares[0] + shares[1]) / 2, 0.02
        for share, holds in ((middle, True), (shares[0] - off, False), (shares[1] + off, False)):
            fitted = calibrate(others, watts, [_moved("first", "first", share)])
            said = predict(out, fitted)
            inside = said.time_s.holds(out.row.measured.time_s)
            inside &= said.corrected_j.holds(corrected(out.row, watts))
            assert inside is holds


def test_the_range_holds_what_lies_between_the_patterns(seven: list[Case]) -> None:
    out, others = seven[0], seven[1:]
    whole = predict(out, calibrate(others))
    for layer in ("first", "branch.5"):
        between = calibrate(others, patterns=[_moved(layer, layer, 0.6)])
        said = predict(out, between)
        for part in ("time_s", "corrected_j"):
            assert getattr(whole, part).low <= getattr(said, part).low
            assert getattr(said, part).high <= getattr(whole, part).high


def test_the_tally_counts_rows_and_not_quantities(seven: list[Case]) -> None:
    found = validate.left_out(seven, IDLE_RISE_W)
    even = validate.left_out(seven, IDLE_RISE_W, [EVEN])
    line = tally(found, even, len(PATTERNS)).line()
    assert line == (
        "within 15% (energy) and 10% (time): 7 of 7 calibrated rows; within its range over 9 "
        "firing patterns: 7 of 7; by even firing alone: 6 of 7"
    )
    far = [replace(one, measured=one.measured * 2) for one in found[:3]]
    count = tally([*far, *found[3:]], even, 9)
    assert (count.rows, count.close, count.inside, count.inside_even) == (7, 6, 6, 6)


def test_the_keyword_row_is_shown_with_its_error_and_reason(
    published: dict[str, Row], found: Calibration
) -> None:
    said = predict(case_of(published["keyword"]), found)
    assert said.time_s.value / published["keyword"].measured.time_s > 2
    assert "two cores" in published["keyword"].note and "milliwatt" in published["keyword"].note


def test_patterns_keep_the_operations_of_a_way(seven: list[Case]) -> None:
    case = seven[2]
    workload, network = case.row.workload, case.chip.network
    totals = []
    for pattern in PATTERNS:
        rates = rates_of(workload, network, 0.05, pattern)
        way = ["first", *(f"branch.0.{place}" for place in range(10))]
        totals.append(sum(rates[name] for name in way))
    assert totals == pytest.approx([0.55] * 9)
    rates = rates_of(workload, network, 0.05, ONE)
    assert sorted(set(rates.values())) == pytest.approx([0, 0.05, 0.55])
    assert FIRST.of("first", 0) == PATH and FIRST.of("branch", 5) == 0
    quarter = rates_of(workload, network, 0.05, TO_FIRST[0])
    assert quarter["first"] == pytest.approx(0.0375 + 0.1375)
    assert quarter["branch.1.9"] == pytest.approx(0.0375) and quarter["last"] == 0.05


def test_a_row_that_misses_ends_the_command_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(validate.BLOUW.read_text())
    document["rows"][3]["measured"]["power_w"]["running"] += 0.02
    changed = tmp_path / "blouw.json"
    changed.write_text(json.dumps(document))
    monkeypatch.setattr(validate, "BLOUW", changed)
    assert main(["validate"]) == 1
    assert "branches-04, dynamic energy after the correction: error -" in capsys.readouterr().out


def test_the_document_holds_what_the_command_prints(seven: list[Case], found: Calibration) -> None:
    text = DOCUMENT.read_text()
    chosen = [one for one in validate.left_out(seven, IDLE_RISE_W) if one.quantity != TOTAL]
    for line in [*tables.comparisons("leave-one-out", chosen), *tables.calibration(found)]:
        assert line in text
    even = validate.left_out(seven, IDLE_RISE_W, [EVEN])
    alone = verdicts(even)
    assert {line.split(",")[0] for line in alone} == {"branches-00"} and len(alone) == 2
    logged = validate.idle_rise([case.row for case in seven])
    count = tally(validate.left_out(seven, IDLE_RISE_W), even, len(PATTERNS))
    for line in [
        *tables.members(members(seven), IDLE_RISE_W),
        *list(tables.members(members(seven, logged), logged))[-3:],
        *tables.even_alone(alone),
        *tables.shipped(found, calibrate(seven, logged)),
        count.line(),
    ]:
        assert line in text


def test_every_line_of_the_documents_blocks_is_printed() -> None:
    _, lines = validate.compared(())
    printed = {line.rstrip() for line in lines}
    blocks = DOCUMENT.read_text().split("```\n")[1::2]
    shown = [line for block in blocks for line in block.splitlines() if line]
    fitted = [line for line in shown if line.startswith(("t  ", "E - correction"))]
    assert len(fitted) == 2 and len(shown) > 90
    assert [line for line in shown if line not in {*printed, *fitted}] == []
