"""The table of what people meet names tests that exist, and tells what became of them."""

import re

import pytest

from tests.case_table import CASES, Case
from tests.cases import Outcomes, names
from tests.places import ROOT


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.replace(" ", "-"))
def test_every_kind_has_its_tests(case: Case) -> None:
    assert case.tests or case.missing
    for name in names(case):
        file, function = name.split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?def {function}\(", text, re.MULTILINE), name


def test_the_verdict_says_what_is_missing() -> None:
    case = Case("x", ("a.py::test_one", "a.py::test_two"))
    outcomes = Outcomes(passed={"tests/test_a.py::test_one"})
    assert outcomes.verdict(case) == "not run: tests/test_a.py::test_two (takes minutes: --soak)"
    outcomes.passed.add("tests/test_a.py::test_two")
    assert outcomes.verdict(case) == "ok"
    outcomes.failed.add("tests/test_a.py::test_one")
    assert outcomes.verdict(case) == "failed: tests/test_a.py::test_one"
    assert outcomes.verdict(Case("y", missing="a GPU")) == "missing: a GPU"
