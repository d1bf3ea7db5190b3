"""The table of stages: what each row is held against."""

import numpy as np
import torch

from spikeship.deploy.analysis.compare import _Rows
from spikeship.deploy.io.inputs import Images


def test_nothing_is_held_against_a_row_aside() -> None:
    images = Images(torch.zeros(4, 1, 2, 2), None, torch.arange(4), {"name": "none"})
    rows = _Rows(images)
    rows.add("ann", np.array([0, 1, 2, 3]))
    rows.add("int8", np.array([0, 9, 9, 9]), aside=True)
    rows.add("converted", np.array([0, 1, 2, 9]))
    assert [row["agreement_with_previous"] for row in rows.rows] == [None, 0.25, 0.75]
