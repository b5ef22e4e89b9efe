"""The measures of the house find what they are there to find."""

import ast
import re

import pytest

from tests import house
from tests.places import ROOT
from tests.repeats import repeats

COUPLE = {
    "models/egg.py": "from models import hen\n",
    "models/hen.py": "def lay():\n    import models.nest\n",
    "models/nest.py": "from models.egg import shell\n",
    "models/fox.py": "import models.hen\n",
}


def source(name: str, text: str) -> house.Source:
    return house.Source(name, text, ast.parse(text))


def test_a_circle_is_found_wherever_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    farm = tuple(source(name, text) for name, text in COUPLE.items())
    monkeypatch.setattr(house, "sources", lambda: farm)
    assert house.circles() == [("models.egg", "models.hen", "models.nest")]


def test_imports_in_a_row_share_a_reason() -> None:
    text = (
        "import os\n"
        "def late():\n"
        "    # slow to load\n"
        "    from a import (\n"
        "        b,\n"
        "    )\n"
        "    import c\n"
        "    c()\n"
        "    import d\n"
        "    import e  # optional\n"
    )
    assert house.deferred_imports(source("x.py", text)) == {4: True, 7: True, 9: False, 10: True}


def test_a_class_is_as_large_as_what_it_declares_and_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        "class Engine:\n"
        "    power: int\n"
        "    def __init__(self):\n"
        "        self.power, self.oil = 1, 2\n"
        "    def run(self):\n"
        "        self.oil -= 1\n"
        "        self.heat: float = 3\n"
        "@dataclass(frozen=True)\n"
        "class Plate:\n"
        "    number: str\n"
    )
    monkeypatch.setattr(house, "sources", lambda: (source("models/car.py", text),))
    engine, plate = house.shapes()
    assert engine == house.ClassSize("models/car.py: Engine", False, 3, 2, 7)
    assert plate.record and plate.attributes == 1


def test_what_stands_twice_is_found_whatever_its_names_are() -> None:
    first = "def a(x):\n    y = x + 1\n    if y > 2:\n        print('two')\n    return y\n"
    second = (
        "class B:\n    def c(self, v):\n        'Other words.'\n        w = v + 7\n"
        "        if w > 9:\n            log('nine')\n        return w\n"
    )
    third = first.replace("+", "-")
    modules = [("one", first), ("two", second), ("three", third)]
    assert repeats(modules, 4) == [("one:2", "two:4")]
    assert repeats(modules, 5) == [], "they are not so long"
    flags = "def f(p):\n" + "    p.add_argument('x')\n" * 9
    assert repeats([("flags", flags), ("others", flags)], 4) == []


def test_the_test_of_a_module_is_found_by_name() -> None:
    assert house.test_of(source("actors/dit.py", "")) == "tests/test_actors_dit.py"
    assert house.test_of(source("pipeline/web/room.py", "")) == "tests/test_pipeline_web_room.py"
    assert house.test_of(source("pipeline/__main__.py", "")) == "tests/test_pipeline_main.py"


def test_what_is_to_be_changed_is_where_the_table_says() -> None:
    """A stranger's questions, and the file whose name answers each."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| (\S+/\S+) \| `(\w+)` \|$", text, re.MULTILINE)
    assert len(rows) >= 15
    for file, name in rows:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8")), (file, name)
