"""Advice: the smallest single change with which a graph fits; each is tried by placing it."""

from collections.abc import Callable

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.placement.layer import Splits
from spikeship.hw_models.placer.changes import At, Broken, Case, Problem, changes

Again = Callable[[Problem, ChipSpec], Broken]

MOST_TRIES = 12  # placements of the whole graph, for all misfits together
NONE = "no single change that was tried makes it fit"
NOT_TRIED = "too many placements were tried to look further; mend the others first"


class Advice:
    """Tries changes in order of size; what fits is what a placement of the whole graph says.

    A change is good where the limit is kept with it and no other limit is broken, in no layer. For
    a layer that breaks several limits one change that mends all of them goes before one for each.

    Args:
        problem: what is placed.
        chip: on what.
        splits: how.
        broken: the limits that it breaks so.
        again: places a changed problem, and gives the limits that it breaks.
    """

    def __init__(
        self, problem: Problem, chip: ChipSpec, splits: Splits, broken: Broken, again: Again
    ) -> None:
        self._problem, self._chip, self._splits = problem, chip, splits
        self._again, self._before = again, set(broken)
        self._known: dict[tuple[str, str], set[At]] = {}

    def smallest(self, at: At) -> str:
        """The change for one broken limit, as a request."""
        case = Case(self._problem, self._chip, at[0])
        whole = [other for other in self._before if other[0] == at[0]]
        for goal in [whole, [at]] if len(whole) > 1 else [[at]]:
            # of one layer's limits each has its own ways; any of them may mend all
            for limit in sorted(goal):
                for change in changes(case, limit, self._splits):
                    broken = self._broken_by(change)
                    if broken is None:
                        return NOT_TRIED
                    if not broken - self._before and not broken.intersection(goal):
                        return change.words
        return NONE

    def _broken_by(self, change: Case) -> set[At] | None:
        """Limits that are broken after a change; None where it is too late to try."""
        key = (change.subject, change.words)
        if key not in self._known:
            if len(self._known) == MOST_TRIES:
                return None
            self._known[key] = set(self._again(change.problem, change.chip))
        return self._known[key]
