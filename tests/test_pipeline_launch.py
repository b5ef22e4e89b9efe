"""A live run put together: what is refused before anything starts, and the files that it leaves. The
source is drawn (tests/squares.py); test_pipeline_commands_run.py has real ones."""

import asyncio
import io
import json
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from actors.fleet import Fleet
from actors.journal.place import TIDY, StateFolder
from actors.journal.records import LOG
from configs.errors import UserError
from configs.schema import RunConfig
from pipeline.__main__ import main
from pipeline.commands.run import STARTING
from pipeline.console import Console
from pipeline.launch import Launch
from tests.squares import Squares
from tests.test_pipeline_keeping_keeping import cut_off

GOOD = ["--headless", "--duration", "1"]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def the_line(capsys):
    """The one line of an error, after the one that says that a run starts."""
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.endswith(STARTING)]
    assert out == "" and len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


class Drawn(Squares):
    """Stands in for the workers of a run; ``failing`` ends their start."""

    groups = SimpleNamespace(peak_memory={"dit 0": 1.0})

    def __init__(self, failing: str = "") -> None:
        super().__init__()
        self.failing = failing

    async def start(self, seed, prompt, report, moment=None):
        await super().start(seed, prompt, report, moment)
        await asyncio.sleep(0.1)
        if self.failing:
            raise RuntimeError(self.failing)


def perform(monkeypatch: pytest.MonkeyPatch, source: Squares, config: RunConfig) -> int:
    monkeypatch.setattr(Launch, "session", lambda launch, fleet: source)
    launch = Launch.make(replace(config, no_state=True))
    return asyncio.run(launch.run(Console(), time.monotonic()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"record": "x.mp4"}, {"summary": "x.mp4"}),
        ({"record": "x.mp4"}, {"summary": "./x.mp4"}),
        ({"record": "x.mp4"}, {"summary": "x.jsonl"}),
        ({"record": "x.mp4"}, {"control_log": "x.mp4"}),
        ({"control_log": "x"}, {"summary": "x"}),
    ],
)
def test_one_file_has_one_purpose(
    one: dict[str, str], other: dict[str, str], model: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files: dict[str, Any] = {name: Path(path) for name, path in {**one, **other}.items()}
    with pytest.raises(UserError, match="two purposes"):
        Launch.make(replace(RunConfig(model_path=model, headless=True), **files))


def test_a_control_log_may_be_the_one_of_the_recording(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.jsonl"
    Launch.make(
        RunConfig(model_path=model, headless=True, record=tmp_path / "x.mp4", control_log=log)
    )


def test_a_replay_goes_on_with_the_controls(model: Path, tmp_path: Path) -> None:
    info = Launch.make(RunConfig(model_path=model, headless=True)).info
    line = {"label": "D", "prompt": "a road", "seed": 3, "model": info.model_hash}
    log = tmp_path / "drive.jsonl"
    log.write_text("".join(json.dumps({"index": n, **line}) + "\n" for n in range(2)))
    config = RunConfig(model_path=model, headless=True, replay=log, controls="DL*2,DR")
    (take,) = Launch.make(config).takes
    assert take.labels == ("D", "D", "DL", "DL", "DR") and take.prompts == ("a road",) * 5
    assert take.seed == 3


def test_what_never_held_a_frame_is_not_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    config = RunConfig(
        model_path=model,
        headless=True,
        duration=0.5,
        record=tmp_path / "x.mp4",
        control_log=tmp_path / "log.jsonl",
        summary=tmp_path / "x.json",
    )
    assert perform(monkeypatch, Drawn(failing="the machine is on fire"), config) == 1
    assert not list(tmp_path.iterdir()) and "on fire" in capsys.readouterr().err
    assert perform(monkeypatch, Drawn(), config) == 0  # the same command, again
    names = {"x.mp4", "x.jsonl", "log.jsonl", "x.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert capsys.readouterr().out.split() == [
        str(tmp_path / name) for name in ("x.mp4", "log.jsonl", "x.json")
    ]
    assert json.loads((tmp_path / "x.json").read_text())["frames"] in range(4, 9)


def test_nobody_waits_for_room_when_the_workers_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive that went on then would start a cluster again."""
    for world in ("first", "0a1b", "2c3d"):
        cut_off(tmp_path, model, launcher="dead", world=world)
    going: list[str] = []

    async def close(fleet: Fleet) -> None:
        going.extend(str(task.get_coro()) for task in asyncio.all_tasks())

    monkeypatch.setattr(Fleet, "close", close)
    monkeypatch.setattr(Launch, "kept", lambda launch, session: Drawn())
    config = RunConfig(model_path=model, state=tmp_path, go_on="all", port=0, duration=1.5)
    launch = Launch.make(config)
    assert len(launch.keeping.others) == 2
    assert asyncio.run(launch.run(Console(), time.monotonic())) == 0
    assert going and not [task for task in going if "go_on" in task]


def test_nothing_is_written_while_workers_load(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a killed launcher leaves a file in the way of the next try."""
    seen: list[list[Path]] = []

    class Loading(Drawn):
        async def start(self, seed, prompt, report, moment=None):
            await super().start(seed, prompt, report, moment)
            seen.append(list(tmp_path.iterdir()))

    config = RunConfig(model_path=model, headless=True, duration=0.5, record=tmp_path / "x.mp4")
    assert perform(monkeypatch, Loading(), config) == 0
    assert seen == [[]] and (tmp_path / "x.mp4").exists()


def test_a_summary_that_cannot_be_written_is_named_and_leaves_no_part(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(self: Path, *arguments: object, **settings: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    config = RunConfig(model_path=model, headless=True, duration=0.5, summary=tmp_path / "x.json")
    monkeypatch.setattr(Path, "write_text", full)
    assert perform(monkeypatch, Drawn(), config) == 1
    said = capsys.readouterr()
    assert "x.json" in said.err and "No space left" in said.err and said.out == ""
    assert not list(tmp_path.iterdir())


def test_a_log_that_failed_is_said_at_the_end_and_in_the_exit_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log = tmp_path / "x.jsonl"
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *mode, **how: Full() if path == log else opened(path, *mode, **how),
    )
    config = RunConfig(model_path=model, headless=True, duration=0.5, control_log=log)
    assert perform(monkeypatch, Drawn(), config) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "x.jsonl" in lines[-1] and "No space left" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--controls", "D,UP"], {}, "'UP'"),
        (["--controls", "D,,D"], {}, "item 2 is empty"),
        (["--controls", "D,"], {}, "item 2 is empty"),
        (["--seed", "-1"], {}, "seed"),
        (["--seed", "2.5"], {}, "--seed"),
        (["--duration", "nan"], {}, "duration"),
        (["--port", "70000"], {}, "port"),
        (["--prompt", " "], {}, "prompt"),
        (["--record", "/nonexistent/drive.mp4"], {}, "/nonexistent"),
        (
            ["--record", "/proc/drive.mp4"],
            {},
            "--record /proc/drive.mp4: folder /proc is not writable",
        ),
        (["--summary", "."], {}, "--summary"),
        (["--replay", "/nonexistent.jsonl"], {}, "replay"),
        (
            ["--replay", "drive.jsonl", "--prompt", "a car"],
            {},
            "replay: the drive has its own past",
        ),
        (["--replay", "drive.jsonl", "--seed", "5"], {}, "--seed: a drive that goes on or is"),
        (
            ["--continue", "--seed", "5"],
            {},
            "--seed: a drive that goes on or is replayed has its own",
        ),
        (["--ray-address", "auto"], {}, "HOST:PORT"),
        (["--vae", "big", "x"], {}, "vae"),
        (["--durration", "1"], {}, "'--duration'"),
        ([], {"NUM_GPUS_DIT": "abc"}, "NUM_GPUS_DIT"),
        ([], {"NUM_GPUS_DIT": "0"}, "num_gpus_dit"),
        ([], {"NUM_GPUS_DIT": "3"}, "possible numbers are 1, 2, 4"),
        ([], {"NUM_GPUS_VAE": "08"}, "NUM_GPUS_VAE"),
        ([], {"NUM_GPUS_VAE": "7"}, "6 latent columns"),
        ([], {"MODEL_PATH": "/nonexistent"}, "/nonexistent"),
        ([], {"CUDA_VISIBLE_DEVICES": "zero"}, "CUDA_VISIBLE_DEVICES"),
        ([], {"CUDA_VISIBLE_DEVICES": "0,97"}, "of these GPUs can be used here"),
        ([], {"MATRIX_TOKEN": "short"}, "MATRIX_TOKEN"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    arguments, environment, said, model, monkeypatch, capsys
):
    for name, value in {"MODEL_PATH": str(model), **environment}.items():
        monkeypatch.setenv(name, value)
    children = psutil.Process().children(recursive=True)
    assert main(["run", *GOOD, *arguments]) == 2
    assert said in the_line(capsys)
    assert len(psutil.Process().children(recursive=True)) == len(children)


def test_a_recording_onto_a_link_to_nothing_is_refused(model, tmp_path, capsys):
    (tmp_path / "drive.mp4").symlink_to(tmp_path / "gone" / "away.mp4")
    record = str(tmp_path / "drive.mp4")
    assert main(["run", *GOOD, "--model-path", str(model), "--record", record]) == 2
    said = the_line(capsys)
    assert "away.mp4, where nothing is; remove the link" in said and "--record" in said


def broken(folder, name, content):
    """Put ``content`` (None: half of what is there) in the place of a file."""
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: broken(folder, WEIGHTS, None), "truncated: expected"),
        (lambda folder: broken(folder, WEIGHTS, LFS), "Git-LFS pointer"),
        (lambda folder: broken(folder, WEIGHTS, b""), "the file is empty"),
        (
            lambda folder: broken(folder, "vae/diffusion_pytorch_model.safetensors", None),
            "truncated: expected",
        ),
        (lambda folder: broken(folder, "text_encoder/model.safetensors", LFS), "Git-LFS pointer"),
        (
            lambda folder: broken(folder, "tokenizer/spiece.model", b"no model"),
            "not a SentencePiece model",
        ),
        (
            lambda folder: (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin")),
            "never opened",
        ),
        (lambda folder: other_shapes(folder), "missing"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae missing"),
    ],
    ids=[
        "truncated",
        "pointer",
        "empty",
        "decoder",
        "text",
        "tokenizer",
        "pickled",
        "shapes",
        "part",
    ],
)
def test_broken_weights_are_one_line_before_anything_starts(
    damage, said, model, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "weights"
    shutil.copytree(model, folder)
    damage(folder)
    monkeypatch.setenv("MODEL_PATH", str(folder))
    before = set(psutil.Process().children(recursive=True))
    assert main(["run", *GOOD, "--record", str(tmp_path / "drive.mp4")]) == 2
    error = the_line(capsys)
    assert said in error and str(folder) in error
    assert (
        set(psutil.Process().children(recursive=True)) <= before
        and not (tmp_path / "drive.mp4").exists()
    )


def other_shapes(folder):
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "num_layers": config["num_layers"] + 1}))


def test_a_port_in_use_is_told_and_nothing_is_written(model, monkeypatch, capsys, tmp_path):
    """No journal either; one that was to go on is free again, and as it was."""
    monkeypatch.setenv("MODEL_PATH", str(model))
    state = StateFolder(tmp_path / "state")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ["--port", str(taken.getsockname()[1]), "--record", str(tmp_path / "drive.mp4")]
        arguments += ["--state", str(state.path)]
        assert main(["run", *arguments]) == 2
        assert "in use" in capsys.readouterr().err
        assert [path.name for path in tmp_path.rglob("*")] == ["state", TIDY]
        cut_off(state.path, model)
        (name,) = state.names()
        log = (state.path / name / LOG).read_bytes()
        assert main(["run", *arguments, "--continue"]) == 2
    assert "in use" in capsys.readouterr().err
    assert (state.path / name / LOG).read_bytes() == log
    state.hold(name).leave()
