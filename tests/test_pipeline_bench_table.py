"""Aligned columns."""

import pytest

from pipeline.bench.table import table


def test_columns_line_up_and_numbers_have_three_digits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table(("part", "ms", "note"), [("step", 18.8421, None), ("a decode", 1234.5, "slow")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "part        ms  note",
        "step      18.8     -",
        "a decode  1234  slow",
    ]
