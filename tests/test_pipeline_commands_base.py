"""The stage scripts on weight folders of every kind: LoRA, another decoder, a shared folder, and
broken ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.__main__ import main
from pipeline.commands.run import STARTING
from pipeline.video import read_video
from tests.places import GOLDEN
from tests.tiny_checkpoint import put, write_checkpoint

FILE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "whole", solver="dpm")


@pytest.fixture(scope="module")
def lora(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layer = "transformer_blocks.0.attn1.to_out.0"
    width = load_file(weights / FILE)[f"{layer}.weight"].shape[0]
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    save_file(
        {
            f"{layer}.lora_A.weight": torch.randn(2, width),
            f"{layer}.lora_B.weight": torch.randn(width, 2),
        },
        file,
    )
    return file


def made(command: str, output: Path, *arguments: str) -> bytes:
    """The bytes of the video that a stage script writes."""
    short = {"base": ("--frames", "9", "--steps", "2"), "stream": ("--sample-groups", "3")}[command]
    assert (
        main([command, "--prompt", "a red car", "--output", str(output), *short, *arguments]) == 0
    )
    assert len(read_video(output)[0]) == {"base": 9, "stream": 12}[command]
    return output.read_bytes()


@pytest.mark.parametrize("frames", [5, 13])
def test_a_base_video_has_the_frames_asked_for(frames: int, weights: Path, tmp_path: Path) -> None:
    """Also where its latents are even in number, of which the decoder makes three frames more."""
    asked = ("--prompt", "a red car", "--frames", str(frames), "--steps", "1")
    output = tmp_path / "base.mp4"
    assert main(["base", *asked, "--output", str(output), "--model-path", str(weights)]) == 0
    assert len(read_video(output)[0]) == frames


@pytest.mark.parametrize("command", ["base", "stream"])
def test_lora_and_the_tiny_decoder_change_the_video(
    command: str, weights: Path, lora: Path, tmp_path: Path
) -> None:
    model = ("--model-path", str(weights))
    plain = made(command, tmp_path / "plain.mp4", *model)
    assert made(command, tmp_path / "again.mp4", *model) == plain
    assert made(command, tmp_path / "lora.mp4", *model, "--lora", str(lora)) != plain
    decoder = ("--vae", "tiny", str(GOLDEN / "taecvx_shaped.safetensors"))
    assert made(command, tmp_path / "tiny.mp4", *model, *decoder) != plain


def test_a_transformer_only_folder_takes_the_rest_from_the_base_model(
    weights: Path, tmp_path: Path
) -> None:
    (alone := tmp_path / "alone").mkdir()
    for name in ("transformer", "streaming.json"):
        (shutil.copytree if (weights / name).is_dir() else shutil.copy)(
            weights / name, alone / name
        )
    ours = made(
        "stream", tmp_path / "a.mp4", "--model-path", str(alone), "--base-model-path", str(weights)
    )
    assert ours == made("stream", tmp_path / "b.mp4", "--model-path", str(weights))


def test_published_stage_3_settings_run_from_the_command_line(
    weights: Path, tmp_path: Path
) -> None:
    """Four groups of four latents, 20 steps, DPM++: a folder without streaming.json."""
    whole = shutil.copytree(weights, tmp_path / "stage3")
    (whole / "streaming.json").unlink()
    output = tmp_path / "x.mp4"
    arguments = (
        "--model-path",
        str(whole),
        "--stage",
        "3",
        "--sample-groups",
        "2",
        "--controls",
        "D*9,DL*9",
    )
    assert main(["stream", "--prompt", "a red car", "--output", str(output), *arguments]) == 0
    assert len(read_video(output)[0]) == 2 * 4 * 4


def only_pickled(folder: Path) -> None:
    (folder / FILE).rename((folder / FILE).with_suffix(".bin"))


def truncate(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: len(content) // 2])


def reshape(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    tensors["proj_out.bias"] = torch.zeros(3)
    save_file(tensors, folder / FILE)


def another_text_encoder(folder: Path) -> None:
    config = folder / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "d_ff": 64}))


@pytest.mark.parametrize("command", ["base", "stream", "run", "dit"])
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (truncate, "truncated"),
        (
            put(FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
            "Git-LFS pointer",
        ),
        (put(FILE, b"<!DOCTYPE html><html>moved</html>"), "web page"),
        (reshape, "proj_out.bias (file [3], model [64])"),
        (only_pickled, "never opened"),
        (another_text_encoder, "text_encoder/model.safetensors: wrong shape"),
        (put("tokenizer/spiece.model", b"not a tokenizer"), "tokenizer/spiece.model"),
        (put("vae/config.json", b"{}"), "vae/config.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_weights_are_one_line_before_anything_starts(
    command: str,
    spoil: Callable[[Path], None],
    expected: str,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(broken := shutil.copytree(weights, tmp_path / "broken"))
    others = {"dit": ("--ranks", "1"), "run": ("--headless", "--duration", "1")}
    assert (
        main(
            [command, "--model-path", str(broken), *others.get(command, ("--prompt", "a red car"))]
        )
        == 2
    )
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if not line.endswith(STARTING)]
    assert len(said) == 1 and said[0].startswith("error: ") and expected in said[0], lines
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
