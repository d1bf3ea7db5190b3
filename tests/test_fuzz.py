"""Random graphs on the simulator and the reference; a large run is ``make fuzz``."""

from pathlib import Path

import graphs
import numpy as np
import pytest
from fuzzing import agreement, planted, replay
from fuzzing.features import digest
from hypothesis import Phase, find, given, settings
from hypothesis.vendor.pretty import pretty

from spikeship.hw_models import fixed
from spikeship.hw_models.reference import interpreter as reference

SOME = settings(max_examples=30, derandomize=True, database=None, deadline=None)


@settings(SOME)
@given(graphs.cases())
def test_the_simulator_does_what_the_reference_does(case: graphs.Case) -> None:
    assert agreement.with_simulator(case.graph, case.messages) is None


def test_a_case_is_told_in_a_line() -> None:
    large = find(graphs.cases(), lambda case: case.messages.size > 200, settings=SOME)
    assert pretty(large).startswith("Case(n0 ") and len(pretty(large)) < 400


def test_a_wrong_reference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "saturate", lambda v: np.clip(v, -(2**23), fixed.STATE_RAIL))
    once = settings(SOME, max_examples=300, phases=[Phase.generate])
    case = find(graphs.cases(), _differs, settings=once)
    rails = reference.run(case.graph, case.messages, strict=False).rails
    assert any(lower for lower, _ in rails.values())


def _differs(case: graphs.Case) -> bool:
    return agreement.with_simulator(case.graph, case.messages) is not None


def test_a_replay_holds_the_same_graph_and_messages(tmp_path: Path) -> None:
    @settings(SOME, max_examples=20)
    @given(graphs.cases())
    def check(case: graphs.Case) -> None:
        replay.write(tmp_path / "case.npz", case, "said")
        again, said = replay.read(tmp_path / "case.npz")
        assert said == "said"
        assert digest(again) == digest(case)

    check()


def test_what_is_no_replay_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(b"something else")
    with pytest.raises(ValueError, match="other.npz: not a replay file"):
        replay.read(tmp_path / "other.npz")


@pytest.mark.parametrize("error", planted.ERRORS, ids=lambda error: error.name)
def test_planted_errors_name_lines_that_are_there(error: planted.Error) -> None:
    with planted.wrong_package(error) as folder:
        planted_text = (folder / "spikeship" / "hw_models" / error.file).read_text()
        assert planted_text.count(error.wrong) >= error.times
