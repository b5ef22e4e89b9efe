"""How many worlds hold their rate: a real launcher, real clients."""

import json

import pytest

from pipeline.__main__ import main
from pipeline.bench.worlds import _progress


def test_a_worlds_figures_are_what_it_did_since_the_first_look() -> None:
    old = {"frames": 160, "seconds": 10.0, "late_slots": 3, "stalls": 1}
    new = {"frames": 316, "seconds": 20.0, "late_slots": 7, "stalls": 1}
    assert _progress(old, new) == {"fps": 15.6, "late": 4 / 160, "stalls": 0}


@pytest.mark.soak
def test_worlds_are_admitted_until_there_is_no_room(tmp_path) -> None:
    file = tmp_path / "worlds.json"
    assert main(["bench", "worlds", "--seconds", "5", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())["worlds"]
    assert figures["admitted"] >= 1 and figures["one"]["fps"] > 1
