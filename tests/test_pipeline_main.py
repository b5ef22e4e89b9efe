"""The command line: help that teaches, and bad input answered by one line and exit code 2 before
anything starts."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.checkpoint import Checkpoint
from models.frames import resample
from pipeline.__main__ import COMMANDS, command, main, parser_of
from pipeline.commands.run import STARTING
from pipeline.video import VideoWriter, read_video
from tests.places import ROOT
from tests.tiny_checkpoint import write_checkpoint

PROMPT = ("--prompt", "a red car")


@pytest.fixture(scope="module")
def basis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes base clips: a folder that is not distilled."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage2", solver="dpm")


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command prints on stderr; nothing else may appear (but that a run
    starts), and the exit code is 2."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if not line.endswith(STARTING)]
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 500, shown.err
    return lines[0]


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["help"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(name in shown and command(name).PURPOSE in shown for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["--version"], ["run"], ["doctor"], ["plan"]])
def test_a_python_without_our_packages_is_told_what_to_do(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pipeline", *arguments],  # -S: no installed package is found
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert sys.executable in lines[0] and "virtual environment" in lines[0]
    assert "pip install -e ." in lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "examples" in shown and f"python -m pipeline {name}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_accepted_by_its_parser(name: str) -> None:
    for line in command(name).EXAMPLES.splitlines():
        words = shlex.split(re.split(r"\s{2,}", line.strip())[0])
        parser_of(name).parse(words[words.index(name) + 1 :])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fly"], "unknown command 'fly'"),
        (["strem"], "did you mean 'stream'"),
        (["base", "--promt", "x"], "did you mean '--prompt'"),
        (["base", "stray"], "unknown argument 'stray'"),
        (["base", "--prompt"], "expected one argument"),
        (["base"], "prompt"),
        (["base", *PROMPT, "--frames", "64"], "4 n + 1"),
        (["base", *PROMPT, "--frames", "1e9"], "whole number"),
        (["base", *PROMPT, "--frames", "0"], "frames"),
        (["base", *PROMPT, "--steps", "0"], "steps"),
        (["base", *PROMPT, "--width", "100"], "multiple of 16"),
        (["base", *PROMPT, "--height", "-16"], "height"),
        (["base", *PROMPT, "--fps", "0"], "fps"),
        (["base", *PROMPT, "--seed", "-1"], "seed"),
        (["base", *PROMPT, "--guidance-scale", "nan"], "number"),
        (["stream", *PROMPT, "--control-guidance", "-1"], "control_guidance"),
        (["base", *PROMPT, "--controls", "D,LEFT"], "LEFT"),
        (["base", *PROMPT, "--controls", "D,,D"], "empty"),
        (["base", *PROMPT, "--controls", "D*0"], "D*0"),
        (["base", *PROMPT, "--output", "no/such/x.mp4"], "does not exist"),
        (["base", *PROMPT, "--output", "http://x/y.mp4"], "protocol"),
        (["base", *PROMPT, "--output=-x.mp4"], "path"),
        (["base", *PROMPT, "--output", "setup.cfg"], "ends in .mp4"),
        (["stream", *PROMPT, "--output", "b.gif"], "ends in .mp4"),
        (["stream", *PROMPT, "--stage", "4", "--guidance-scale", "4"], "guidance_scale"),
        (["stream", *PROMPT, "--width", "160"], "give an --init-video of 160x192"),
        (["run", "--headless", "--record", "b.gif"], "ends in .mp4"),
        (["play", "--headless", "--record", "b.gif", "--", "/bin/true"], "ends in .mp4"),
        (["base", *PROMPT, "--model-path", "no/such"], "nothing"),
        (["base", *PROMPT, "--model-path", "docs"], "transformer"),
        (["stream", *PROMPT, "--stage", "2"], "3 or 4"),
        (["stream", *PROMPT, "--clip-frames", "10"], "4 n + 1"),
        (["stream", *PROMPT, "--sample-groups", "0"], "sample_groups"),
        (["bench", "everything"], "unknown part"),
        (["bench", "attention", "--threads", "0"], "threads"),
        (["bench", "attention", "--json", "no/such/x.json"], "does not exist"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_bad_input(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert expected in refused(arguments, capsys)


def test_what_exists_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.mp4").write_text("mine")
    for name in ("base", "stream"):
        arguments = [name, *PROMPT, "--output", str(tmp_path / "x.mp4")]
        assert "never overwritten" in refused(arguments, capsys)
    assert (tmp_path / "x.mp4").read_text() == "mine"


def test_what_depends_on_the_weights(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--model-path", str(model), "--output", str(tmp_path / "x.mp4"))
    assert "2 noise groups need 9, 17, 25" in refused(
        ["stream", *PROMPT, *chosen, "--clip-frames", "13"], capsys
    )
    assert "multiple of noise_groups" in refused(
        ["stream", *PROMPT, *chosen, "--steps", "3"], capsys
    )
    assert "late_labels" in refused(["stream", *PROMPT, *chosen, "--late-labels", "3"], capsys)
    assert "init_video" in refused(
        ["stream", *PROMPT, *chosen, "--init-video", str(tmp_path / "no.mp4")], capsys
    )
    assert "device" in refused(["stream", *PROMPT, *chosen, "--device", "tpu"], capsys)
    assert "dtype" in refused(["stream", *PROMPT, *chosen, "--dtype", "int4"], capsys)
    assert "this is stage 4" in refused(["base", *PROMPT, *chosen], capsys)
    for width, height, count in ((64, 48, 9), (48, 32, 5)):
        with VideoWriter(clip := tmp_path / f"{width}.mp4", width, height) as writer:
            writer.write(np.zeros((count, height, width, 3), np.uint8))
        message = refused(["stream", *PROMPT, *chosen, "--init-video", str(clip)], capsys)
        assert ("48x32" if width == 64 else "at least 9 frames") in message
    assert not (tmp_path / "x.mp4").exists()


def test_bad_input_is_answered_fast_and_without_a_traceback(tmp_path: Path) -> None:
    """As a person meets it: a new process, which imports neither torch nor Ray to say no."""
    start = time.monotonic()
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "pipeline",
        "base",
        "--prompt",
        "x",
        "--frames",
        "64",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2 and not done.stdout and time.monotonic() - start < 20
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert lines == ["error: frames: expected 4 n + 1 (5, 9, ... 65), got 64"]
    modules = {
        line.split("|")[-1].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "configs.load" in modules and not modules & {"torch", "ray", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], []])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]) -> None:
    """As ``| head -1`` does."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert done.returncode in (0, 141) and done.stderr == ""


def test_base_and_stream_make_videos(
    model: Path, basis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, long = tmp_path / "base.mp4", tmp_path / "long.mp4"
    chosen = (*PROMPT, "--model-path", str(model))
    drive = (
        "--controls",
        "D*8,DL*9",
        "--raw-controls",
        "--fps",
        "8",
        "--guidance-scale",
        "1.5",
        "--dtype",
        "float32",
    )
    assert (
        main(
            [
                "base",
                *PROMPT,
                "--model-path",
                str(basis),
                *drive,
                "--frames",
                "17",
                "--steps",
                "3",
                "--width",
                "64",
                "--output",
                str(base),
            ]
        )
        == 0
    )
    frames, fps = read_video(base)
    assert frames.shape == (17, 32, 64, 3) and fps == 8
    shown = capsys.readouterr().out
    assert f"model: {basis}" in shown and "17 frames" in shown and "controls" not in shown

    stream = ("stream", *chosen, "--width", "64", "--init-video", str(base), "--seed", "5")
    groups = ("--noise-groups", "2", "--clip-frames", "17", "--sample-groups", "3", "--fps", "8")
    assert main([*stream, *groups, "--output", str(long)]) == 0
    frames, fps = read_video(long)
    # W = 2: two latents of four frames per outer step
    assert frames.shape == (24, 32, 64, 3) and fps == 8
    again = tmp_path / "again.mp4"
    assert main([*stream, *groups, "--output", str(again)]) == 0
    assert again.read_bytes() == long.read_bytes()


def test_a_full_disk_is_one_line(
    basis: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "x.mp4"
    (tmp_path / "x.mp4.part").symlink_to("/dev/full")
    chosen = ("--model-path", str(basis), "--frames", "9", "--steps", "2")
    assert main(["base", *PROMPT, *chosen, "--output", str(target)]) == 1
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if not line.startswith("base video: ")]
    assert len(errors) == 1 and errors[0].startswith("error: video")
    assert "No space left" in errors[0]
    assert not target.exists()


def test_a_base_video_becomes_a_start_clip(model: Path, basis: Path, tmp_path: Path) -> None:
    own = tmp_path / "weights"
    shutil.copytree(model, own)
    (own / "start_clips.safetensors").unlink()
    assert Checkpoint.open(own).start_latents("a red car").shape[0] == 0
    files = (
        "--output",
        str(tmp_path / "x.mp4"),
        "--start-clip",
        str(own / "start_clips.safetensors"),
    )
    assert (
        main(["base", *PROMPT, "--model-path", str(basis), "--frames", "9", "--steps", "2", *files])
        == 0
    )
    checkpoint = Checkpoint.open(own)
    assert (
        checkpoint.presets == ["a red car"] and checkpoint.start_latents("a red car").shape[0] == 3
    )


def test_faster_clips_are_resampled() -> None:
    clip = np.arange(20)[:, None, None, None]
    assert resample(clip, 24, 16).ravel().tolist() == [0, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18]
    assert resample(clip, 16, 16) is clip and resample(clip, 8, 16) is clip


def test_a_run_says_something_before_anything_heavy_is_imported() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pipeline", "run", "--headless"]
    missing = ["--model-path", "nowhere"]
    done = subprocess.run(
        [*command, *missing], capture_output=True, text=True, cwd=ROOT, timeout=90
    )
    lines = done.stderr.splitlines()
    said = next(i for i, line in enumerate(lines) if line.endswith(STARTING))
    before = {line.split("|")[-1].strip() for line in lines[:said]}
    assert done.returncode == 2 and "pipeline.console" in before
    assert not before & {"torch", "ray", "transformers"}


def test_a_folder_that_was_deleted_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir {shlex.quote(str(gone))} && exec {sys.executable} -P -m pipeline run --replay nothing.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        ["bash", "-c", command], cwd=gone, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 2 and "current folder was deleted" in told.stderr
    assert told.stderr.count("\n") == 1
