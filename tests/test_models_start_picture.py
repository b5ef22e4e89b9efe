"""A start of one's own: a picture or a video becomes frames of the world's size, a world begins with
what they encode to, and what cannot be is refused before anything loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs.choice import WeightChoice
from configs.errors import UserError
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from models.start_picture import fitted
from pipeline import video
from pipeline.__main__ import main
from pipeline.launch import Launch
from pipeline.video import VideoWriter
from tests.tiny_checkpoint import HEIGHT, WIDTH, write_checkpoint
from the_matrix import the_matrix

PROMPT = "a red car"


def start_of(path: Path, checkpoint: Checkpoint) -> np.ndarray:
    return video.read_start(path, (checkpoint.height, checkpoint.width), 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4", patch_size=2)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Left half red, right half blue, larger and wider than the world."""
    pixels = np.zeros((2 * HEIGHT + 30, 5 * WIDTH, 3), np.uint8)
    pixels[:, : pixels.shape[1] // 2, 0], pixels[:, pixels.shape[1] // 2 :, 2] = 200, 100
    path = tmp_path_factory.mktemp("pictures") / "two halves.png"
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_fills_the_window_and_keeps_its_shape(weights: Path, picture: Path) -> None:
    frames = start_of(picture, Checkpoint.open(weights))
    assert frames.shape == (9, 2 * HEIGHT, 2 * WIDTH, 3) and (frames == frames[0]).all()
    assert frames[0, 5, 10].tolist() == [200, 0, 0] and frames[0, -5, -10].tolist() == [0, 0, 100]
    square = np.zeros((1, 100, 300, 3), np.uint8)
    square[:, 40:60, 140:160] = 255  # stays a square: nothing is stretched
    white = fitted(square, 64, 96)[0, ..., 0] > 127
    rows, columns = (np.flatnonzero(white.any(axis)) for axis in (1, 0))
    assert abs(len(rows) - len(columns)) <= 1 and len(rows) == pytest.approx(20 * 64 / 100, abs=1)


def test_a_video_is_continued_from_its_first_frames(weights: Path, tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "film.mp4", Checkpoint.open(weights)
    for count in (40, 5):
        with VideoWriter(path, 192, 128, 32, overwrite=True) as writer:
            for level in np.linspace(20, 220, count).astype(np.uint8):
                writer.write(np.full((1, 128, 192, 3), level, np.uint8))
        frames = start_of(path, checkpoint)
        assert frames.shape == (9, 2 * HEIGHT, 2 * WIDTH, 3)
        steps = np.diff(frames.mean((1, 2, 3)))  # twice as fast, so every second frame
        if count == 40:
            assert steps == pytest.approx(2 * 200 / 39, abs=3)
        else:
            assert (steps[:2] > 50).all() and steps[2:] == pytest.approx(0)  # its last frame held


def test_a_world_begins_with_it_alike_live_and_in_python(weights: Path, picture: Path) -> None:
    api = the_matrix(streaming_model_path=weights, engine="torch-fp32")
    streamed = [frames for _, frames in api.stream(PROMPT, "D*3", seed=7, start=picture)]
    live = api.live(PROMPT, 7, start=str(picture))
    assert all(np.array_equal(live.step("D"), frames) for frames in streamed)
    plain = [frames for _, frames in api.stream(PROMPT, "D*3", seed=7)]
    assert not np.array_equal(streamed[0], plain[0])
    config = RunConfig(model_path=weights, prompt=PROMPT, start=picture, engine="torch-fp32")
    launch = Launch.make(config)
    worker = Checkpoint.open(launch.weights)  # what every worker of the run opens
    for prompt in (PROMPT, "another"):
        latents = worker.start_latents(prompt)
        again = [frames for _, frames in api.stream(PROMPT, "D*3", seed=7, start=latents)]
        assert all(map(np.array_equal, again, streamed))
    assert launch.info.model_hash != Checkpoint.open(weights).model_hash  # a log of it is its own
    assert worker.world_hash == Checkpoint.open(weights).world_hash  # a saved world needs no start


def test_a_stage_script_begins_with_it_as_python_does(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[np.ndarray] = []
    write = VideoWriter.write

    def noted(self: VideoWriter, frames: np.ndarray) -> None:
        written.append(frames)
        write(self, frames)

    monkeypatch.setattr(VideoWriter, "write", noted)
    given = ["stream", "--model-path", str(weights), "--prompt", PROMPT, "--controls", "D*20"]
    given += ["--seed", "7", "--sample-groups", "3", "--engine", "torch-fp32"]
    given += ["--output", str(tmp_path / "x.mp4"), "--start"]
    assert main([*given, str(picture)]) == 0
    api = the_matrix(streaming_model_path=weights, engine="torch-fp32")
    streamed = [frames for _, frames in api.stream(PROMPT, "D*3", seed=7, start=picture)]
    assert np.array_equal(np.concatenate(written), np.concatenate(streamed))
    assert main([*given, str(tmp_path / "none.png")]) == 2
    assert main([*given, str(picture), "--init-video", str(picture)]) == 2


def test_a_start_travels_with_the_choice_of_weights(weights: Path) -> None:
    plain = Checkpoint.open(weights)
    start = torch.randn(3, *plain.start_latents(PROMPT).shape[1:]).numpy()
    given = Checkpoint.open(WeightChoice(weights, start=start))
    assert np.array_equal(given.start_latents(PROMPT).numpy(), start)
    assert plain.stream_hash == plain.model_hash != given.stream_hash


def test_what_cannot_be_a_start_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, text = tmp_path / "small.png", tmp_path / "text.png"
    Image.new("RGB", (WIDTH - 1, 2 * HEIGHT)).save(small)
    text.write_text("no picture")
    api = the_matrix(streaming_model_path=weights, engine="torch-fp32")
    monkeypatch.setattr("models.parts.Parts.__init__", None)  # nothing is loaded for it
    for path, message in (
        (tmp_path / "none.png", "expected a picture or a video, found nothing there"),
        (tmp_path, "found a folder there"),
        (Path("/dev/zero"), "found a device or socket there"),
        (text, "not a picture or video that can be read"),
        (small, f"47x64 is too small; expected at least {WIDTH}x{HEIGHT}, best 96x64"),
    ):
        with pytest.raises(UserError, match=message):
            api.stream(PROMPT, "D", start=path)
        with pytest.raises(UserError, match=message):
            Launch.make(RunConfig(model_path=weights, start=path))
    with pytest.raises(UserError, match="start: expected a picture or video file, or a tensor"):
        api.live(PROMPT, start=3)  # type: ignore[arg-type]
