"""What the README promises is true: the tree, the commands, the links, the examples."""

import ast
import configparser
import re
import shlex
import tomllib

import pytest

from models.controls import parse_signal
from pipeline.__main__ import COMMANDS, parser_of
from tests.places import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = re.findall(
    r"^    (\S+)\s{2,}\S.*$", TEXT.split("## What is where")[1].split("##")[0], flags=re.MULTILINE
)
HIDDEN = {
    ".git",
    "__pycache__",
    "build",
    "dist",
    "recordings",
    "example_videos",
    "runs",
    "README.md",
}


def tracked_names() -> set[str]:
    """Top-level names that belong to the project; caches and what runs write do not."""
    return {
        path.name
        for path in ROOT.iterdir()
        if path.name not in HIDDEN
        and not path.name.startswith(".")
        and not path.name.endswith(".egg-info")
        if path.suffix not in (".mp4", ".jsonl", ".part")
    }


def test_the_tree_is_complete_and_true() -> None:
    listed = {name.rstrip("/") for name in TREE}
    assert all((ROOT / name).is_dir() == name.endswith("/") for name in TREE), TREE
    assert listed == tracked_names()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists(), target


def test_the_two_commands_are_there() -> None:
    assert "pip install -e '.[openvino]' && bash run_interactive.sh" in TEXT
    assert "pip install -e '.[test]' && pytest" in TEXT
    assert "pip install -e '\\.\\[test\\]' && pytest" in (ROOT / ".ci/run").read_text()


def test_named_files_and_commands_exist() -> None:
    for name in re.findall(r"(?:docs|tests|configs|pipeline|models/tiny)/[\w/]+\.\w+", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"python -m pipeline (\w+)", TEXT):
        assert name in COMMANDS, name


def test_flags_in_the_commands_are_known() -> None:
    for line in re.findall(
        r"^    (?:bash run_interactive\.sh|python -m pipeline) .*$", TEXT, flags=re.MULTILINE
    ):
        words = shlex.split(line, comments=True)
        name = words[3] if words[0] == "python" else "run"
        parser_of(name).parse(words[4 if words[0] == "python" else 2 :])


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
def test_examples_are_python(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert (ROOT / (str(node.module).replace(".", "/") + ".py")).exists(), node.module


def test_the_first_example_is_whole() -> None:
    signal = re.search(r'control_signal="([^"]+)"', TEXT)
    length = re.search(r"length=(\d+),  # seconds", TEXT)
    assert signal and length
    assert len(parse_signal(signal[1])) == 4 * int(length[1]) + 1


def test_metadata_has_one_home() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (
        list(build) == ["build-system"]
        and len((ROOT / "pyproject.toml").read_text().splitlines()) == 3
    )
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["license"] == "Apache-2.0"
    packages = set(setup["options"]["packages"].split())
    folders = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in ROOT.glob("[!.]*/**/__init__.py")
    }
    ours = {name for name in folders if not name.startswith(("tests", "build", "matrix_live"))}
    assert packages == {"matrix_live", *(f"matrix_live.{name}" for name in ours)}


def test_every_dependency_is_pinned_and_says_what_it_is_for() -> None:
    lines = (
        (ROOT / "setup.cfg")
        .read_text()
        .split("install_requires =")[1]
        .split("[options.package_data]")[0]
        .splitlines()
    )
    for number, line in enumerate(lines):
        word = line.strip()
        if not word or word.startswith(("#", "[")) or word.endswith("="):
            continue
        assert re.fullmatch(r"[A-Za-z0-9_-]+==[0-9.]+", word), word
        above = [text.strip() for text in lines[:number]]
        while above and re.fullmatch(r"[A-Za-z0-9_-]+==[0-9.]+", above[-1]):
            above.pop()  # several lines may share a reason
        assert above and above[-1].startswith("#"), word


def test_what_the_page_needs_is_shipped() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for package, patterns in setup["options.package_data"].items():
        folder = ROOT / package.removeprefix("matrix_live.").replace(".", "/")
        files = [path for pattern in patterns.split(",") for path in folder.glob(pattern.strip())]
        assert files, f"{package}: {patterns} matches nothing"


def test_figures_name_the_machines_they_are_of() -> None:
    figures = TEXT.split("## Figures")[1]
    for words in ("Xeon with AMX", "without AMX", "macOS and Windows were never tried"):
        assert words in figures, words
