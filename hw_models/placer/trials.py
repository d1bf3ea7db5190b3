"""Trials: the smallest change with which a graph fits, found by placing it again with each."""

from collections.abc import Callable, Collection, Iterator
from itertools import count

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.placement.layer import Splits
from spikeship.hw_models.placer.changes import At, Broken, Case, Problem, changes

Again = Callable[[Problem, ChipSpec], tuple[Splits, Broken]]

MOST_TRIES = 24  # placements of the whole graph, for all misfits together
_MOST_CHANGES = 3  # at once
NONE = "nothing that was tried makes it fit"
NOT_TRIED = "too many placements were tried to look further; mend the others first"


class Trials:
    """Tries changes in order of size; what fits is what a placement of the whole graph says.

    A change is good where the limit is kept with it and no other limit is broken, in no layer. For
    a layer that breaks several limits one change that mends all of them goes before one for each;
    where no single change is good, up to three together.

    Args:
        problem: what is placed. chip: on what. splits: how.
        broken: the limits that it breaks so.
        again: places a changed problem.
    """

    def __init__(
        self, problem: Problem, chip: ChipSpec, splits: Splits, broken: Broken, again: Again
    ) -> None:
        self._start = Case(problem, chip)
        self._again, self._before = again, set(broken)
        self._known = {self._start.key: (splits, broken)}
        self._left = MOST_TRIES
        self._listed: dict[tuple[object, ...], _Remembered] = {}

    def smallest(self, at: At) -> str:
        """The change for one broken limit, as a request."""
        subject = self._start.about(at[0])
        whole = {other for other in self._before if other[0] == at[0]}
        goals = (whole, {at}) if len(whole) > 1 else ({at},)
        for number in range(1, _MOST_CHANGES + 1):
            for goal in goals:
                found = self._mended(subject, goal, number)
                if found is not None:
                    return ", and ".join(found.words)
        return NONE if self._left else NOT_TRIED

    def _view(self, case: Case) -> tuple[Splits, Broken] | None:
        """How a case is split and what it breaks; None where it is too late to try."""
        if case.key not in self._known:
            if not self._left:
                return None
            self._left -= 1
            self._known[case.key] = self._again(case.problem, case.chip)
        return self._known[case.key]

    def _wrong(self, broken: Collection[At], goal: set[At]) -> list[At]:
        """Limits that are still broken, or newly."""
        return [at for at in broken if at in goal or at not in self._before]

    def _mended(self, case: Case, goal: set[At], number: int) -> Case | None:
        """The case with at most so many further changes, after which nothing is wrong."""
        view = self._view(case)
        if view is None:
            return None
        wrong = self._wrong(view[1], goal)
        if not wrong:
            return case
        if number == 0:
            return None
        # of one layer's limits each has its own ways; any of them may mend all
        first = [at for at in wrong if at[0] == wrong[0][0]]
        for change in self._changes(case, first, view[0]):
            if not self._left and change.key not in self._known:
                return None
            found = self._mended(change, goal, number - 1)
            if found is not None:
                return found
        return None

    def _changes(self, case: Case, limits: list[At], splits: Splits) -> Iterator[Case]:
        """What may be done about a layer's broken limits, each change once."""
        seen = set()
        for at in limits:
            key = (case.key, case.subject, at)
            if key not in self._listed:
                self._listed[key] = _Remembered(changes(case, at, splits))
            for change in self._listed[key]:
                if change.key not in seen:
                    seen.add(change.key)
                    yield change


class _Remembered:
    """Cases that are found when they are first asked for, and kept."""

    def __init__(self, source: Iterator[Case]) -> None:
        self._source, self._found = source, list[Case]()

    def __iter__(self) -> Iterator[Case]:
        for index in count():
            if index == len(self._found):
                more = next(self._source, None)
                if more is None:
                    return
                self._found.append(more)
            yield self._found[index]
