"""Codes for a phone's camera: drawn as made, and only where a phone gets in."""

import io

import pytest
import segno

from pipeline.console import Console
from pipeline.qr import BORDER, qr_lines
from pipeline.web.access import address_for_phones

ADDRESS = "http://192.168.1.7:8000/?token=" + "aB3-_" * 6


def test_what_is_drawn_is_the_code() -> None:
    lines = qr_lines(ADDRESS)
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    rows = [[halves[letter][half] for letter in line] for line in lines for half in (0, 1)]
    drawn = tuple(bytes(row[BORDER:-BORDER]) for row in rows[BORDER:][: len(rows[0]) - 2 * BORDER])
    made = segno.make(ADDRESS, error="l", micro=False)
    assert drawn == tuple(map(bytes, made.matrix))
    assert len(lines) < 30  # it fits a terminal


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", None), ("::1", None), ("localhost", None), ("192.168.1.7", "192.168.1.7")],
)
def test_only_an_address_that_a_phone_reaches(host: str, shown: str | None) -> None:
    assert address_for_phones(host) == shown


def test_a_wildcard_is_an_address_of_this_machine() -> None:
    address = address_for_phones("0.0.0.0")
    assert address is None or not address.startswith("127.")


def test_it_is_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr("sys.stderr", heard)
    Console().code(ADDRESS)
    assert heard.getvalue() == ""
    monkeypatch.setattr(heard, "isatty", lambda: True)
    Console().code(ADDRESS)
    assert heard.getvalue().splitlines()[:-1] == qr_lines(ADDRESS)
    Console(as_json=True).code(ADDRESS)
    assert len(heard.getvalue().splitlines()) == len(qr_lines(ADDRESS)) + 1
