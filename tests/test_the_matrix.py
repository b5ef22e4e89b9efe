"""The Python API: exact frame counts, the same bytes again, the rules of labels, and refusals
before anything loads."""

import functools
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import the_matrix as api
from configs.errors import UserError
from configs.load import child_environment
from models.world import World
from pipeline.video import read_video
from tests.places import ROOT, SHIPPED
from tests.tiny_checkpoint import write_checkpoint
from the_matrix import the_matrix

PROMPT = "a red car"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights: stage2, stage3 (two latents per group, DPM++) and stage4."""
    root = tmp_path_factory.mktemp("weights")
    stages = {"stage4": write_checkpoint(root / "stage4")}
    for stage in ("stage2", "stage3"):
        stages[stage] = root / stage
        shutil.copytree(stages["stage4"], stages[stage])
    settings = {
        "noise_groups": 2,
        "window_size": 2,
        "inference_steps": 4,
        "solver": "dpm",
        "guidance_scale": 2.0,
    }
    for stage in ("stage2", "stage3"):
        (stages[stage] / "streaming.json").write_text(json.dumps(settings))
    return stages


@pytest.fixture(scope="module")
def generator(folders: dict[str, Path]) -> the_matrix:
    return the_matrix(str(folders["stage2"]), str(folders["stage3"]), engine="torch-fp32")


@pytest.fixture
def live(folders: dict[str, Path]) -> the_matrix:
    return the_matrix(folders["stage2"], folders["stage4"])


@pytest.fixture(scope="module")
def drive(generator: the_matrix, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One 5 s run with everything watched that happens on the way."""
    folder = tmp_path_factory.mktemp("videos")
    steps: list[tuple[str, int, int]] = []
    resets: list[dict[str, Any]] = []
    given: list[list[str]] = []
    reset, step = World.reset, World.step

    def watched_reset(world: World, seed: int, prompt: Any, start: Any, labels: Any) -> None:
        resets.append({"seed": seed, "start": start.clone(), "labels": list(labels)})
        reset(world, seed, prompt, start, labels)

    def watched_step(world: World, labels: Any, cursor: int = 0) -> Any:
        given.append(list(labels))
        return step(world, labels, cursor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "reset", watched_reset)
        patch.setattr(World, "step", watched_step)
        signal = ",".join(["D"] * 10 + ["DL"] * 4)
        paths = generator.generate(
            PROMPT, 5, signal, 7, folder, seed=3, progress=lambda *seen: steps.append(seen)
        )
    return {
        "paths": paths,
        "steps": steps,
        "resets": resets,
        "given": given,
        "folder": folder,
        "signal": signal,
    }


def test_paths_and_frame_counts(drive: dict[str, Any]) -> None:
    assert drive["paths"] == [
        drive["folder"] / "base_video.mp4",
        drive["folder"] / "final_video.mp4",
    ]
    for path, count in zip(drive["paths"], (65, 80)):
        frames, fps = read_video(path)
        assert frames.shape == (count, 32, 48, 3) and fps == 16
    assert sorted(p.name for p in drive["folder"].iterdir()) == [
        "base_video.mp4",
        "final_video.mp4",
    ]


def test_progress_is_told_from_first_to_last(drive: dict[str, Any]) -> None:
    base = [seen for seen in drive["steps"] if seen[0] == "base video"]
    final = [seen for seen in drive["steps"] if seen[0] == "final video"]
    assert base == [("base video", step, 50) for step in range(1, 51)]
    assert final == [("final video", latent, 20) for latent in range(1, 21)]


def test_streaming_starts_from_the_latents_themselves(
    drive: dict[str, Any], generator: the_matrix
) -> None:
    (reset,) = drive["resets"]
    parts = generator._parts(generator.generation, torch.device("cpu"))
    labels = api.fill_signal(drive["signal"].split(","), 17, 7)
    latents = api.make_base(parts, api.VideoRequest(PROMPT, labels, seed=3), frames=65)
    assert torch.equal(reset["start"], latents) and reset["seed"] == 3


def test_label_k_conditions_latent_k(drive: dict[str, Any]) -> None:
    labels = [
        *drive["signal"].split(","),
        *api.random_signal(11, 7),
    ]  # 2 (10 + 2) + 1 = 25 labels in all
    assert drive["resets"][0]["labels"] == labels[:5]
    assert drive["given"] == [labels[3 + 2 * s : 5 + 2 * s] for s in range(10)]


def test_same_arguments_same_bytes(
    drive: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    again = the_matrix(folders["stage2"], folders["stage3"], engine="torch-fp32")
    paths = again.generate(PROMPT, 5, drive["signal"], 7, tmp_path, seed=3, progress=False)
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in drive["paths"]]


def test_short_videos_and_what_changes_them(
    generator: the_matrix, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = set()
    variants: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"control_signal": "DL*5"},
        {"guidance_scale": 1.0},
        {"prompt": "snow"},
    ]
    for number, changes in enumerate(variants):
        (folder := tmp_path / str(number)).mkdir()
        (path,) = generator.generate(
            **{"prompt": PROMPT, "length": 1, "output_folder": folder, **changes}
        )
        assert path == folder / "base_video.mp4" and len(read_video(path)[0]) == 17
        seen.add(path.read_bytes())
    assert len(seen) == len(variants)
    assert not caplog.records
    generator.generate(PROMPT, 1, "D*9", output_folder=tmp_path / "0", overwrite=True)
    assert "only the first 5 are used" in caplog.text
    generator.generate(PROMPT, 1, "D,D", output_folder=tmp_path / "0", overwrite=True)
    assert "2 labels, 5 are needed" in caplog.text


def test_as_many_labels_as_are_shown_are_enough(
    generator: the_matrix, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """4 a second plus one; those that are filled in belong to latents which are not shown."""
    for count in (20, 21, 25, 26):
        caplog.clear()
        generator.generate(
            PROMPT, 5, f"D*{count}", output_folder=tmp_path, progress=False, overwrite=True
        )
        assert len(caplog.records) == (count in (20, 26)), count
    assert "only the first 25 are used" in caplog.text


@pytest.mark.parametrize("length", range(1, 10))
def test_every_length_has_its_exact_frames(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Base: 16 a second plus one, 65 at most; final: exactly 16 a second, also where W latents do
    not divide it."""
    monkeypatch.setattr(api, "make_base", functools.partial(api.make_base, steps=1))
    settings = json.loads((folders["stage3"] / "streaming.json").read_text())
    three = shutil.copytree(folders["stage3"], tmp_path / "stage3")
    (three / "streaming.json").write_text(
        json.dumps({**settings, "window_size": 3, "inference_steps": 2})
    )
    paths = the_matrix(folders["stage2"], three).generate(
        PROMPT, length, output_folder=tmp_path, progress=False
    )
    counts = [(path.name, len(read_video(path)[0])) for path in paths]
    base = ("base_video.mp4", min(16 * length + 1, 65))
    assert counts == ([base] if length <= 4 else [base, ("final_video.mp4", 16 * length)])


def test_the_published_decoder_and_schedule(folders: dict[str, Path], tmp_path: Path) -> None:
    """Stage 3 as published, G = 4, W = 4, T = 20, with the full autoencoder: S = length outer
    steps, nothing lost."""
    weights = write_checkpoint(tmp_path / "weights", full_vae=True)
    (weights / "streaming.json").unlink()
    generator = the_matrix(weights, weights)
    published = generator.streaming.streaming
    assert (published.noise_groups, published.window_size, published.inference_steps) == (4, 4, 20)
    (videos := tmp_path / "videos").mkdir()
    paths = generator.generate(PROMPT, 5, output_folder=videos, progress=False)
    assert [len(read_video(path)[0]) for path in paths] == [65, 80]


def test_the_example_takes_the_models_of_its_folder_and_says_so(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["stage2"], tmp_path / "models/stage2")
    shutil.copytree(folders["stage3"], tmp_path / "models/stage3")
    done = subprocess.run(
        [sys.executable, ROOT / "generation_example.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        env=child_environment(PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    videos = [tmp_path / "example_videos" / f"{name}_video.mp4" for name in ("base", "final")]
    said = done.stdout.splitlines()
    assert said == [
        f"stage 2: {tmp_path / 'models/stage2'}",
        f"stage 3: {tmp_path / 'models/stage3'}",
        *map(str, videos),
    ]
    assert [len(read_video(path)[0]) for path in videos] == [65, 128]
    assert "labels" not in done.stderr, "the example gives as many as it should"


def test_the_example_in_a_folder_that_takes_no_files_is_one_line_before_all_work() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "generation_example.py"],
        capture_output=True,
        text=True,
        cwd="/proc",
        timeout=300,
        env=child_environment(PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: the folder example_videos cannot be made in /proc")
    assert done.stderr.count("\n") == 1


def test_without_paths_the_embedded_world_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = the_matrix()
    assert generator.generation.path == SHIPPED / "stage2"
    assert generator.streaming.path == SHIPPED / "stage3"


def test_models_load_once(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    transformer = api.Checkpoint.transformer

    def counted(checkpoint: api.Checkpoint, *args: Any) -> Any:
        loads.append(checkpoint.path)
        return transformer(checkpoint, *args)

    monkeypatch.setattr(api.Checkpoint, "transformer", counted)
    again = the_matrix(folders["stage2"], folders["stage4"])
    for _ in range(2):
        again.generate(PROMPT, 1, output_folder=tmp_path, progress=False, overwrite=True)
        assert len(list(again.stream(PROMPT, "D,DL"))) == 2
    assert loads == [folders["stage2"], folders["stage4"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"length": 0},
        {"length": -1},
        {"length": 2.5},
        {"length": "8"},
        {"length": 10**9},
        {"length": True},
        {"length": float("nan")},
        {"control_signal": "D,LEFT"},
        {"control_signal": "D,,DL"},
        {"control_signal": "D,"},
        {"control_signal": ""},
        {"control_signal": "\u0414,DL"},
        {"control_signal": 3},
        {"control_signal": ["D"]},
        {"control_signal": "D," * 2_000_000 + "D"},
        {"control_seed": -1},
        {"control_seed": "1"},
        {"seed": 2**53},
        {"seed": 1.0},
        {"guidance_scale": float("nan")},
        {"guidance_scale": "6"},
        {"guidance_scale": -1},
        {"gpu_id": -1},
        {"gpu_id": 99},
        {"gpu_id": True},
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": "x" * 100_000},
        {"prompt": "a\x07"},
        {"prompt": "a\udcff"},
        {"prompt": None},
        {"output_folder": "missing"},
        {"output_folder": "~nobody-has-this-name"},
        {"output_folder": ""},
        {"output_folder": None},
        {"progress": None},
        {"progress": "yes"},
        {"overwrite": 1},
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_anything_loads(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = the_matrix(folders["stage2"], folders["stage3"], engine="torch-fp32")
    with pytest.raises(UserError) as error:
        fresh.generate(**{"prompt": PROMPT, "length": 1, **changes})
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert not fresh._loaded and not list(tmp_path.iterdir())


def test_output_folder_that_is_a_file_and_existing_videos(
    generator: the_matrix, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file"):
        generator.generate(PROMPT, 1, output_folder=tmp_path / "file")
    (tmp_path / "base_video.mp4").write_bytes(b"precious")
    with pytest.raises(UserError, match="exists"):
        generator.generate(PROMPT, 1, output_folder=tmp_path)
    assert (tmp_path / "base_video.mp4").read_bytes() == b"precious"


def test_missing_and_broken_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path, "", 5):
        with pytest.raises(UserError) as error:
            the_matrix(path, folders["stage3"])  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    broken = tmp_path / "broken"
    shutil.copytree(folders["stage2"], broken)
    file = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    for content, word in (
        (file.read_bytes()[:50_000], "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git-LFS"),
        (b"", "empty"),
        (b"<html>moved</html>" * 30, "web page"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=word) as error:
            the_matrix(folders["stage2"], broken)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_stream_is_reproducible_and_steered(live: the_matrix) -> None:
    def frames(controls: Any, seed: int = 1) -> np.ndarray:
        latents = list(live.stream(PROMPT, controls, seed))
        assert [index for index, _ in latents] == list(range(len(latents)))
        return np.stack([pictures for _, pictures in latents])

    first = frames("D*4,DL*4")
    assert first.shape == (8, 4, 32, 48, 3) and first.dtype == np.uint8
    assert np.array_equal(first, frames(["D"] * 4 + ["DL"] * 4))
    assert np.array_equal(first[:4], frames("D*4")) and not np.array_equal(first, frames("D*8"))
    assert not np.array_equal(first, frames("D*4,DL*4", seed=2))


@pytest.mark.parametrize("stage", ["stage3", "stage4"])
def test_a_live_world_is_the_stream_and_goes_on_from_a_file(
    folders: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    matrix = the_matrix(folders["stage2"], folders[stage])
    labels = ["D", "D", "DL", "DL", "DR", "DR", "D", "D"]
    streamed = np.concatenate([frames for _, frames in matrix.stream(PROMPT, labels, seed=3)])
    world = matrix.live(PROMPT, seed=3)
    window = matrix.streaming.streaming.window_size
    first = [world.step(labels[k : k + window]) for k in range(0, 4, window)]
    file = world.save(tmp_path / "drive.world")
    opened = the_matrix(folders["stage2"], folders[stage]).open(str(file))
    rest = [opened.step(labels[k : k + window]) for k in range(4, 8, window)]
    assert np.array_equal(np.concatenate([*first, *rest]), streamed)
    for path in (tmp_path / "absent.world", tmp_path, "", 5):
        with pytest.raises(UserError) as error:
            matrix.open(path)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_stream_asks_for_a_label_right_before_its_step(live: the_matrix) -> None:
    asked: list[str] = []

    def keys() -> Iterator[str]:
        for label in itertools.cycle(("D", "DL")):
            asked.append(label)
            yield label

    stream = live.stream(PROMPT, keys())
    for count in range(1, 6):
        next(stream)
        assert len(asked) == count
    stream.close()


def test_stream_without_controls_never_ends(live: the_matrix) -> None:
    assert len(list(itertools.islice(live.stream(PROMPT, seed=5), 40))) == 40


def test_stream_continues_given_latents(live: the_matrix) -> None:
    start = torch.randn(3, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    ours = [pictures for _, pictures in live.stream(PROMPT, "D*3", start=start)]
    theirs = [pictures for _, pictures in live.stream(PROMPT, "D*3")]
    assert not np.array_equal(ours[0], theirs[0])


def test_stream_refuses_before_it_starts(live: the_matrix) -> None:
    variants: list[dict[str, Any]] = [
        {"prompt": ""},
        {"seed": -1},
        {"seed": "1"},
        {"controls": "X"},
        {"controls": "D,,D"},
        {"controls": 5},
        {"guidance_scale": "6"},
        {"gpu_id": 99},
        {"start": [1.0]},
    ]
    for bad in variants:
        with pytest.raises(UserError) as error:
            live.stream(**{"prompt": PROMPT, **bad})
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert not live._loaded
    for start in (torch.zeros(1, 16, 4, 5), torch.zeros(16, 4, 6), torch.tensor(1.0)):
        with pytest.raises(UserError, match="start latents"):
            next(live.stream(PROMPT, "D", start=start))
    with pytest.raises(UserError, match="unknown control label"):
        list(live.stream(PROMPT, ["D", "LEFT"]))


def test_a_stream_leaves_the_callers_threads_alone(live: the_matrix) -> None:
    before = torch.get_num_threads()
    stream = live.stream(PROMPT, "D*3")
    next(stream)
    assert torch.get_num_threads() == before
    stream.close()


def test_it_works_where_ray_is_not_installed(folders: dict[str, Path], tmp_path: Path) -> None:
    program = f"""
import sys
for name in ("ray", "starlette", "uvicorn"):
    sys.modules[name] = None
from the_matrix import the_matrix
generator = the_matrix({str(folders["stage2"])!r}, {str(folders["stage4"])!r})
print(*generator.generate({PROMPT!r}, 1, output_folder={str(tmp_path)!r}))
print(len(list(generator.stream({PROMPT!r}, "D*2"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "base_video.mp4"), "2"]
    assert "\r" not in done.stderr  # lines, not a bar, where there is no terminal
    assert "base video: 50 of 50 steps" in done.stderr


def test_a_tilde_is_the_home_folder(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folders["stage2"].parent
    assert folders["stage4"].parent == home
    monkeypatch.setenv("HOME", str(home))
    world = the_matrix(f"~/{folders['stage2'].name}", f"~/{folders['stage4'].name}")
    assert world.generation.path == folders["stage2"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert api._output_folder("~") == tmp_path
    nobody = "~nobody-has-this-name"
    for call in (
        lambda: the_matrix(nobody),
        lambda: the_matrix(streaming_model_path=nobody),
        lambda: the_matrix(clip_path=nobody),
        lambda: api._output_folder(nobody),
    ):
        with pytest.raises(UserError, match="expected a user's home folder behind '~', got '~nob"):
            call()
