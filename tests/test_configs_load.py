"""Flags over environment over YAML over defaults; whatever does not fit is one clear line."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.limits import check_prompt, check_seed
from configs.load import LOOKS, SPIN, WAIT, cache_folder, load, state_folder
from configs.schema import RunConfig, StreamConfig, StreamSettings
from models.weight_folder import model_folder
from tests.places import ROOT, SHIPPED


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 400
    return text


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_precedence(tmp_path: Path) -> None:
    config = write(tmp_path, "num_gpus_dit: 1\nnum_gpus_vae: 1\nseed: 1\nport: 1001\n")
    environment = {"NUM_GPUS_DIT": "2", "NUM_GPUS_VAE": "2", "HOME": "/x"}
    settings = load(RunConfig, {"num_gpus_dit": "3", "seed": None}, config, environment)
    assert (settings.num_gpus_dit, settings.num_gpus_vae, settings.seed, settings.port) == (
        3,
        2,
        1,
        1001,
    )
    assert settings.host == "127.0.0.1" and settings.duration is None


def test_the_shipped_files_load() -> None:
    tiny = load(RunConfig, config=ROOT / "configs/tiny.yaml", environment={})
    assert model_folder(tiny.model_path)[0] == SHIPPED / "stage4"
    published = load(RunConfig, config=ROOT / "configs/stage4.yaml", environment={})
    assert (published.num_gpus_dit, published.num_gpus_vae) == (1, 3)
    assert str(published.model_path) == "../models/stage4"


def test_a_shipped_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(RunConfig, config=Path("configs/tiny.yaml"), environment={}).model_path
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tiny.yaml").write_text("seed: 3\n")  # one's own comes first
    assert load(RunConfig, config=Path("configs/tiny.yaml"), environment={}).seed == 3


@pytest.mark.parametrize(
    "names", ["", "a.lan,", "a b", "drive.example.org:8443", "http://a.lan", "['a.lan']"]
)
def test_further_host_names_are_names(names: str) -> None:
    with pytest.raises(UserError, match="allow_host: expected host names") as error:
        load(RunConfig, flags={"allow_host": names}, environment={})
    one_line(error)


FINDS = f"""
import importlib.abc, os, sys
class Torch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("{SPIN}"), os.environ.get("{WAIT}"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Torch())
"""


@pytest.mark.parametrize("start", ["import the_matrix", "base", "stream"])
@pytest.mark.parametrize(
    "chosen, found",
    [({}, f"{LOOKS} None"), ({SPIN: "5"}, "5 None"), ({WAIT: "ACTIVE"}, "None ACTIVE")],
)
def test_threads_of_whole_videos_fall_asleep_soon(
    start: str, chosen: dict[str, str], found: str
) -> None:
    """What torch finds when it is loaded: other programs run beside it unless somebody knows."""
    others = {name: text for name, text in os.environ.items() if name not in (SPIN, WAIT)}
    if " " not in start:
        asked = [start, "--prompt", "x", "--output", "/tmp/never-made.mp4"]
        start = f"from pipeline.__main__ import main; main({asked})"
    done = subprocess.run(
        [sys.executable, "-c", FINDS + start],
        env={**others, **chosen, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == found, done.stderr


def test_who_has_no_home_keeps_things_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a number that is nobody's in a container, where nothing says HOME."""

    def nobody(kind: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(nobody))
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert state_folder() == Path("/.local/state/the-matrix-live")
    assert cache_folder() == Path("/.cache/the-matrix-live")


def test_an_empty_variable_counts_as_not_set_but_for_the_gpus() -> None:
    names = ("NUM_GPUS_DIT", "NUM_GPUS_VAE", "MODEL_PATH", "MATRIX_TOKEN")
    assert load(RunConfig, environment=dict.fromkeys(names, "")) == RunConfig()
    pool = load(RunConfig, environment={"CUDA_VISIBLE_DEVICES": ""}).visible_devices
    assert pool == ()


def test_every_kind_of_flag() -> None:
    settings = load(
        RunConfig,
        {
            "vae": ["tiny", "a b.safetensors"],
            "headless": True,
            "duration": "1.5",
            "record": "x.mp4",
            "prompt": "a\n b",
        },
        environment={"CUDA_VISIBLE_DEVICES": "2,0"},
    )
    assert (
        settings.vae == ("tiny", Path("a b.safetensors"))
        and settings.headless
        and settings.duration == 1.5
    )
    assert load(RunConfig, flags={"allow_host": "a.lan, b.lan"}, environment={}).allow_host == (
        "a.lan",
        "b.lan",
    )
    assert (
        settings.record == Path("x.mp4")
        and settings.visible_devices == ("2", "0")
        and settings.prompt == "a b"
    )


@pytest.mark.parametrize(
    "count", ["abc", "0", "-2", "1.5", "08", "a[$(touch hacked)]", "1e3", "٣", "9999", " 2"]
)
def test_impossible_gpu_counts(count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NUM_GPUS_DIT", "NUM_GPUS_VAE"):
        with pytest.raises(UserError) as error:
            load(RunConfig, environment={name: count})
        assert name in one_line(error) or name.lower() in one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flags",
    [
        {"port": "70000"},
        {"port": "http"},
        {"port": "-1"},
        {"seed": "-1"},
        {"seed": str(2**53)},
        {"seed": "2.5"},
        {"duration": "nan"},
        {"duration": "inf"},
        {"duration": "-3"},
        {"duration": "0"},
        {"prompt": "   "},
        {"prompt": "x" * 100_000},
        {"prompt": "a\x00b"},
        {"prompt": "a\ud800b"},
        {"model_path": ""},
        {"model_path": "-rf"},
        {"host": "a b"},
        {"ray_address": "auto"},
        {"ray_address": "10.0.0.1"},
        {"vae": ["huge", "x"]},
        {"tls_cert": "a.pem"},
        {"log_level": "loud"},
        {"worlds": "0"},
        {"worlds": "65"},
        {"worlds": "many"},
        {"rest": "-1"},
        {"rest": "3"},
        {"rest": "inf"},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_bad_flags(flags: Mapping[str, object]) -> None:
    with pytest.raises(UserError) as error:
        load(RunConfig, flags, environment={})
    assert next(iter(flags)) in one_line(error).replace("-", "_").replace("__", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_gpu_dit: 1", "num_gpus_dit"),
        ("seed: 1\nseed: 2", "2 times"),
        ("seed: !!python/object/apply:os.system ['true']", "tags"),
        ("seed: !!int '3'", "tags"),
        ("a: &x 1\nseed: *x", "aliases"),
        ("seed: '42'", "whole number"),
        ("seed: true", "whole number"),
        ("headless: 1", "true or false"),
        ("prompt: 3", "text"),
        ("- a\n- b", "name: value"),
        ("seed: [1", "YAML"),
        ("port: 99999", "65535"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        load(RunConfig, config=write(tmp_path, text), environment={})
    one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        "seed: " + "[" * 20_000,
        "seed: " + "{a: " * 10_000,
        "seed: 2026-13-45",
        "prompt: 2026-02-30 25:00:00",
        "seed: " + "9" * 5000,
        "duration: 1" + "_0" * 3000,
        "seed: 190:20:30:" + "59:" * 3000 + "1",
        "? [a]\n: b",
    ],
    ids=["lists", "maps", "date", "time", "number", "float", "sixty", "key"],
)
def test_hostile_yaml_is_one_line_within_two_seconds(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text + "\n")
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load(RunConfig, config=tmp_path / "run.yaml", environment={})
    assert "run.yaml" in str(error.value) or "seed" in str(error.value)
    assert len(str(error.value)) < 400 and time.monotonic() - start < 2


def test_a_large_yaml_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# line\n" * 20_000)
    with pytest.raises(UserError, match="at most"):
        load(RunConfig, config=tmp_path / "run.yaml", environment={})


def test_yaml_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(UserError, match="cannot be read") as error:
            load(RunConfig, config=path, environment={})
        one_line(error)
    assert load(RunConfig, config=write(tmp_path, "# nothing\n"), environment={}) == RunConfig()


def test_prompts_and_seeds() -> None:
    assert check_prompt(" a  car\n<b>on</b> a road\t") == "a car <b>on</b> a road"
    assert check_seed(0) == 0 and check_seed(2**53 - 1) == 2**53 - 1
    for bad in (True, "1", 1.0, -1, 2**53, None):
        with pytest.raises(UserError, match="seed"):
            check_seed(bad)


def test_stream_settings_say_what_fits() -> None:
    assert StreamSettings().latents == 5 and StreamSettings().inner_steps == 1
    assert StreamSettings(window_size=4, inference_steps=20).latents == 17
    for bad in (
        {"inference_steps": 50},
        {"late_labels": 5},
        {"window_size": 0},
        {"noise_groups": True},
    ):
        with pytest.raises(UserError):
            StreamSettings(**bad)
    for value in (-1, float("nan"), "2"):
        with pytest.raises(UserError, match="control_guidance"):
            StreamSettings(control_guidance=value)  # type: ignore[arg-type]


def test_a_stream_is_guided_as_the_weights_say_unless_told_otherwise() -> None:
    weights = StreamSettings(control_guidance=2.0, guidance_scale=1.5, solver="dpm")
    assert StreamConfig(prompt="a car").streaming(weights).control_guidance == 2.0
    assert (
        StreamConfig(prompt="a car", control_guidance=1.0).streaming(weights).control_guidance
        == 1.0
    )
    assert (
        weights.served_guidance == 1.5
        and replace(weights, solver="consistency").served_guidance == 1.0
    )


def test_a_settings_file_of_an_impossible_name_is_one_line() -> None:
    with pytest.raises(UserError, match="config: expected names of at most 255 bytes"):
        load(RunConfig, config=Path("x" * 300), environment={})
