"""The house in numbers, as a newcomer feels them: `python -m tests.house` prints the table that stands
in docs/architecture.md; tests/test_layering.py holds the limits.

Counted are the project's own modules (configs, models, actors, pipeline, training, matrix_live, the_matrix.py);
lines of code over the width also in tests, lines of docs in every .md file.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles

from tests.places import ROOT
from tests.repeats import LEAST_LINES, repeats

PACKAGES = ("matrix_live", "configs", "models", "actors", "pipeline", "training")
CODE_WIDTH, DOCS_WIDTH = 100, 120
LONGEST_FUNCTION, MOST_ATTRIBUTES, MOST_DEFERRED, LONGEST_FILE = 40, 15, 20, 500

# Modules without a test file of their own name, and the test that covers them.
COVERED: dict[str, str] = {
    "matrix_live/__main__.py": "tests/test_matrix_live_imports.py",
    "matrix_live/house.py": "tests/test_matrix_live_imports.py",
    "models/engines/int8.py": "tests/test_training_int8.py",
    "models/engines/serve.py": "tests/test_models_engines_choose.py",
    "models/saving.py": "tests/test_models_checkpoint.py",
    "models/start_clips.py": "tests/test_models_checkpoint.py",
    "pipeline/commands/doctor.py": "tests/test_pipeline_doctor.py",
    "actors/journal/kept.py": "tests/test_actors_session.py",
    "actors/journal/scribe.py": "tests/test_actors_journal_drive.py",
    "actors/journal/story.py": "tests/test_actors_journal_records.py",
    "actors/gang.py": "tests/test_actors_session.py",
    "actors/fleet.py": "tests/test_actors_session.py",
    "actors/replica.py": "tests/test_actors_session.py",
    "actors/records.py": "tests/test_actors_dit.py",
    "actors/solo.py": "tests/test_pipeline_commands_dit.py",
    "actors/text.py": "tests/test_actors_dit.py",
    "actors/worker.py": "tests/test_actors_dit.py",
    "configs/choice.py": "tests/test_models_checkpoint.py",
    "configs/errors.py": "tests/test_configs_load.py",
    "configs/limits.py": "tests/test_configs_load.py",
    "configs/schema.py": "tests/test_configs_load.py",
    "models/denoiser.py": "tests/test_models_world.py",
    "models/frames.py": "tests/test_models_tae.py",
    "models/noise.py": "tests/test_models_world.py",
    "models/parts.py": "tests/test_models_offline.py",
    "models/solvers.py": "tests/test_models_world.py",
    "models/transformer_config.py": "tests/test_models_transformer.py",
    "pipeline/bench/attention.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/live.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/load.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/model.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/options.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/plot.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/bench/timing.py": "tests/test_pipeline_commands_bench.py",
    "pipeline/broadcast.py": "tests/test_pipeline_launch.py",
    "pipeline/host.py": "tests/test_pipeline_web_lobby.py",
    "pipeline/hosted_world.py": "tests/test_pipeline_worlds.py",
    "pipeline/commands/stream.py": "tests/test_pipeline_main.py",
    "pipeline/commands/flags.py": "tests/test_pipeline_main.py",
    "pipeline/dit_speed.py": "tests/test_pipeline_commands_dit.py",
    "pipeline/launch_program.py": "tests/test_pipeline_commands_play.py",
    "pipeline/run_files.py": "tests/test_pipeline_launch.py",
    "pipeline/signals.py": "tests/test_pipeline_commands_run.py",
    "pipeline/stage/audience.py": "tests/test_pipeline_stage_show.py",
    "pipeline/stage/life.py": "tests/test_pipeline_stage_show.py",
    "pipeline/stage/recorder.py": "tests/test_pipeline_stage_recordings.py",
    "pipeline/stage/tape.py": "tests/test_pipeline_stage_recordings.py",
    "pipeline/stage_videos.py": "tests/test_pipeline_main.py",
    "pipeline/stage/takes.py": "tests/test_pipeline_launch.py",
    "pipeline/web/site.py": "tests/test_pipeline_web_gateway.py",
    "pipeline/web/wheel.py": "tests/test_pipeline_web_room.py",
    "configs/yaml_file.py": "tests/test_configs_load.py",
    "models/vae_config.py": "tests/test_models_vae.py",
    "pipeline/plan.py": "tests/test_pipeline_commands_plan.py",
    "pipeline/bench/shapes.py": "tests/test_pipeline_bench_gpu.py",
    "training/__main__.py": "tests/test_training_run.py",
    "training/autoencoder.py": "tests/test_training_run.py",
    "training/decoder.py": "tests/test_training_run.py",
    "training/diffusion.py": "tests/test_training_run.py",
    "training/distill.py": "tests/test_training_run.py",
    "training/export.py": "tests/test_training_run.py",
    "training/optimise.py": "tests/test_training_run.py",
    "training/plots.py": "tests/test_training_run.py",
    "training/ranks.py": "tests/test_training_run.py",
    "training/text.py": "tests/test_training_run.py",
    "training/scenery.py": "tests/test_training_simulator.py",
    "training/things.py": "tests/test_training_camera.py",
    "training/roads.py": "tests/test_training_drivers.py",
    "training/evaluation/control.py": "tests/test_training_evaluate.py",
    "training/evaluation/dream.py": "tests/test_training_evaluate.py",
    "training/evaluation/reconstruction.py": "tests/test_training_evaluate.py",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module: its path from the root, its text, its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name by which others import it."""
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@dataclass(frozen=True)
class ClassSize:
    """One class: how many attributes, methods and lines it has; a record is a frozen dataclass."""

    name: str
    record: bool
    attributes: int
    methods: int
    lines: int


@cache
def sources() -> tuple[Source, ...]:
    """Every module of the project, tests excepted."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return tuple(_read(path) for path in sorted([*paths, ROOT / "the_matrix.py"]))


def tests() -> tuple[Source, ...]:
    """Every module of the tests."""
    return tuple(_read(path) for path in sorted((ROOT / "tests").rglob("*.py")))


def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text, str(path)))


def documents() -> list[Path]:
    """Every .md file of the project."""
    folders = [ROOT, ROOT / "docs", *(ROOT / package for package in PACKAGES)]
    return sorted(
        {
            path
            for folder in folders
            for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
        }
    )


def functions(source: Source) -> Iterator[Definition]:
    """Every function and method, those inside others too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.stmt) -> int:
    """Lines from the first word to the last, decorators not counted."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def deferred_imports(source: Source) -> dict[int, bool]:
    """Lines of imports inside functions, and whether a comment at the place gives the reason."""
    lines = source.text.splitlines()
    inside = {
        node.lineno: node
        for function in functions(source)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    found: dict[int, bool] = {}
    explained = 0  # the line to which the last reason reaches: imports in a row share one
    for line, node in sorted(inside.items()):
        here = "#" in lines[line - 1] or lines[line - 2].lstrip().startswith("#")
        found[line] = here or explained == line - 1
        explained = (node.end_lineno or line) if found[line] else explained
    return found


def imported(source: Source) -> set[str]:
    """Modules of the project that this one imports, at its top or later."""
    known = {other.module for other in sources()}
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return (names & known) - {source.module}


def circles() -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or on the way round."""
    arrows = {source.module: imported(source) for source in sources()}
    reached = {start: _reach(start, arrows) for start in arrows}
    groups = {
        tuple(sorted(other for other in reached[start] if start in reached[other]))
        for start in arrows
        if start in reached[start]
    }
    return sorted(groups)


def _reach(start: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    open_ends = [start]
    while open_ends:
        fresh = arrows[open_ends.pop()] - seen
        seen |= fresh
        open_ends += fresh
    return seen


def shapes() -> list[ClassSize]:
    """Every class, the one with most attributes first."""
    found = [
        _shape(node, source)
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    ]
    return sorted(found, key=lambda shape: (-shape.attributes, -shape.lines))


def _shape(node: ast.ClassDef, source: Source) -> ClassSize:
    """Attributes are the fields declared in the class and whatever methods set on ``self``."""
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    fields = {
        n.target.id
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    written = {
        n.attr
        for method in methods
        for n in ast.walk(method)
        if isinstance(n, ast.Attribute)
        and isinstance(n.ctx, ast.Store)
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
    }
    record = any("frozen=True" in ast.unparse(word) for word in node.decorator_list)
    name = f"{source.name}: {node.name}"
    return ClassSize(name, record, len(fields | written), len(methods), length(node))


def test_of(source: Source) -> str:
    """The test file of a module's name: actors/dit.py has tests/test_actors_dit.py."""
    return f"tests/test_{source.name.replace('__', '').removesuffix('.py').replace('/', '_')}.py"


def untested() -> list[str]:
    """Modules with neither a test file of their name nor a line in COVERED."""
    return [
        source.name
        for source in sources()
        if not source.name.endswith("__init__.py")
        and not (ROOT / test_of(source)).exists()
        and source.name not in COVERED
    ]


def long_code_lines() -> tuple[int, int]:
    """Lines of Python over the width, and lines in all; tests too."""
    paths = [ROOT / source.name for source in sources()]
    paths += [*ROOT.glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    lines = [line for path in set(paths) for line in path.read_text("utf-8").splitlines()]
    return sum(len(line) > CODE_WIDTH for line in lines), len(lines)


def long_docs_lines() -> list[str]:
    """Where a line of docs is over the width, as "file:line"."""
    return [
        f"{path.relative_to(ROOT).as_posix()}:{number}"
        for path in documents()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > DOCS_WIDTH
    ]


def table() -> list[tuple[str, str]]:
    """What is counted, and how much of it there is now."""
    lengths = sorted(length(f) for source in sources() for f in functions(source))
    typed = [f.returns is not None for source in sources() for f in functions(source)]
    both = (*sources(), *tests())
    deferred = [said for source in both for said in deferred_imports(source).values()]
    wide, lines = long_code_lines()
    modules = [s for s in sources() if not s.name.endswith("__init__.py")]
    named = sum((ROOT / test_of(source)).exists() for source in modules)
    folders = Counter(str(Path(source.name).parent) for source in modules)
    files = {source.name: len(source.text.splitlines()) for source in sources()}
    longest = max(files, key=lambda name: files[name])
    return [
        ("functions: median, 90 %, longest", _spread(lengths)),
        (f"functions over {LONGEST_FUNCTION} lines", _share(_over(lengths), len(lengths))),
        ("functions whose return is typed", _share(sum(typed), len(typed))),
        ("circles of imports", "; ".join(map(" - ".join, circles())) or "0"),
        ("imports inside functions; without a reason", f"{len(deferred)}; {deferred.count(False)}"),
        (f"lines of Python over {CODE_WIDTH} columns", f"{100 * wide / lines:.2f} % of {lines}"),
        (f"lines of docs over {DOCS_WIDTH} columns", str(len(long_docs_lines()))),
        ("modules with a test of their name; named in the table; neither", _tests(named)),
        (f"places where {LEAST_LINES} lines of logic stand twice", _twice()),
        ("files a folder", ", ".join(f"{name} {n}" for name, n in sorted(folders.items()))),
        ("longest file", f"{longest}, {files[longest]} lines"),
    ]


def _spread(lengths: Sequence[int]) -> str:
    return f"{median(lengths):.0f}, {quantiles(lengths, n=10)[-1]:.0f}, {max(lengths)}"


def _over(lengths: Sequence[int]) -> int:
    return sum(length > LONGEST_FUNCTION for length in lengths)


def stand_twice() -> list[tuple[str, ...]]:
    """Places of the project whose logic is the same but for names and constants."""
    return repeats((source.name, source.text) for source in sources())


def _twice() -> str:
    return "; ".join(map(" ~ ".join, stand_twice())) or "0"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}"


def _tests(named: int) -> str:
    return f"{named}; {len(COVERED)}; {len(untested())}"


def main() -> None:
    """Print the table, then what is still over a limit, by name."""
    print("| | |\n|---|---|")
    for what, much in table():
        print(f"| {what} | {much} |")
    print(
        "\n| largest classes, settings and other records excepted | attributes | methods | lines |\n|---|---|---|---|"
    )
    for shape in [shape for shape in shapes() if not shape.record][:6]:
        print(f"| {shape.name} | {shape.attributes} | {shape.methods} | {shape.lines} |")
    for source in sources():
        for function in functions(source):
            if length(function) > LONGEST_FUNCTION:
                print(f"long: {source.name}: {function.name}, {length(function)} lines")
        for line, said in deferred_imports(source).items():
            print("" if said else f"import without a reason: {source.name}:{line}\n", end="")
    print("".join(f"untested: {name}\n" for name in untested()), end="")


if __name__ == "__main__":
    main()
