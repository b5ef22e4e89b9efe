"""Late labels are compared over all numbers of them that the weights can have."""

import json

import pytest

from models.checkpoint import Checkpoint
from tests.places import SHIPPED
from training import late_labels
from training.evaluation.horizon import courses


def test_later_labels_answer_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_labels, "courses", lambda minutes, count: courses(0.1, count))
    rows = list(late_labels.compared(Checkpoint.open(SHIPPED / "stage4"), 1))
    assert [row["late_labels"] for row in rows] == [1, 2]
    assert rows[1]["response_seconds"] < rows[0]["response_seconds"]
    assert json.loads(json.dumps(rows)) == rows
