"""The shape of the project: who may import whom, and one door to each outside thing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house
from tests.places import ROOT

LAYERS = {
    "configs": {"configs"},
    "models": {"configs", "models"},
    "actors": {"configs", "models", "actors"},
    "pipeline": {"configs", "models", "actors", "pipeline"},
    "training": {"configs", "models", "training"},
    "matrix_live": {"matrix_live", "pipeline"},  # where it is installed; starts the program
}
OWN = {*LAYERS, "the_matrix", "tests"}
DOORS = {
    "ray": ("actors/",),
    "torch.distributed": ("models/parallel.py",),
    "xfuser": ("models/parallel.py",),
    "yunchang": ("models/parallel.py",),
    "yaml": ("configs/yaml_file.py",),
    "starlette": ("pipeline/web/",),
    "uvicorn": ("pipeline/web/",),
    "simplejpeg": ("pipeline/video.py",),
    "imageio_ffmpeg": ("pipeline/video.py",),
    "openvino": ("models/engines/openvino.py",),
    "pickle": (),
}
SOURCES = sorted(p for package in LAYERS for p in (ROOT / package).rglob("*.py")) + [
    ROOT / "the_matrix.py"
]
SOURCES = [path for path in SOURCES if path.exists()]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that ``path`` imports, at the top or lazily, as a dotted name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import; name the package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted_names(path: Path) -> Iterator[str]:
    """Every attribute chain such as ``os.environ`` or ``torch.cuda.is_available``."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            parts = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name):
                yield ".".join(reversed([*parts, value.id]))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = name_of(path).split("/")[0]
    for module in imports(path):
        if module.split(".")[0] not in OWN:
            continue
        if package == "the_matrix.py":
            assert module.startswith(("matrix_live", "configs", "models", "pipeline.video")), module
        else:
            assert module.split(".")[0] in LAYERS[package], f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_one_door_to_each_outside_thing(path: Path) -> None:
    for module in [*imports(path), *dotted_names(path)]:
        for outside, doors in DOORS.items():
            if module == outside or module.startswith(outside + "."):
                assert name_of(path).startswith(doors) if doors else False, (
                    f"{name_of(path)} uses {module}"
                )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_environment_device_and_weights_have_one_door(path: Path) -> None:
    here = name_of(path)
    names = [*dotted_names(path), *imports(path)]
    if here not in ("configs/load.py", "actors/head.py"):  # head.py sets Ray's own variables
        assert not [n for n in names if n.startswith(("os.environ", "os.getenv", "os.putenv"))], (
            here
        )
    if here not in (
        "models/device.py",
        "models/attention.py",
        "models/parallel.py",
        "actors/layout.py",
    ):
        assert not [n for n in names if n.startswith("torch.cuda")], here
    refused = {"torch.load", "torch.save", "sys.path", "os.system"}
    if here.startswith("matrix_live/"):  # the one place that says where our packages are
        refused.discard("sys.path")
    assert not refused.intersection(names), here


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_shell_and_no_eval(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            assert not any(
                word.arg == "shell"
                and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            ), name_of(path)
            assert not (isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")), (
                name_of(path)
            )


@pytest.mark.parametrize("path", sorted(ROOT.glob("[!.]*/**/__init__.py")), ids=name_of)
def test_every_init_is_a_docstring(path: Path) -> None:
    body = tree_of(path).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr) and ast.get_docstring(tree_of(path)), (
        name_of(path)
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, name_of(path)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py"], ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)}: begin with a docstring"


def test_lines_fit() -> None:
    wide, lines = house.long_code_lines()
    assert wide < lines / 100, f"{wide} lines of Python over {house.CODE_WIDTH} columns"
    assert not house.long_docs_lines(), f"over {house.DOCS_WIDTH} columns"


def test_no_logic_stands_twice() -> None:
    assert not house.stand_twice()


def test_every_function_says_what_it_returns() -> None:
    untyped = [
        f"{source.name}: {function.name}"
        for source in house.sources()
        for function in house.functions(source)
        if function.returns is None
    ]
    assert not untyped


def test_every_function_fits_on_a_screen() -> None:
    long = [
        f"{source.name}: {function.name}"
        for source in house.sources()
        for function in house.functions(source)
        if house.length(function) > house.LONGEST_FUNCTION
    ]
    assert not long, f"over {house.LONGEST_FUNCTION} lines"


def test_objects_stay_small() -> None:
    """Settings and other records that never change may have as many fields as there are choices."""
    large = [shape for shape in house.shapes() if not shape.record]
    assert not [shape for shape in large if shape.attributes > house.MOST_ATTRIBUTES]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not house.circles()


def test_imports_inside_functions_are_few_and_have_their_reason() -> None:
    """Only where a heavy or optional package is spared on purpose."""
    both = (*house.sources(), *house.tests())
    said = [reason for each in both for reason in house.deferred_imports(each).values()]
    assert len(said) <= 20 and all(said)


def test_every_module_has_a_test() -> None:
    """One of its name, or the one that house.COVERED names."""
    assert not house.untested()
    for name, test in house.COVERED.items():
        assert (ROOT / name).exists() and (ROOT / test).exists(), (name, test)


def test_nothing_imports_training_but_tests() -> None:
    for path in SOURCES:
        if not name_of(path).startswith("training/"):
            assert not [m for m in imports(path) if m.split(".")[0] == "training"], name_of(path)
