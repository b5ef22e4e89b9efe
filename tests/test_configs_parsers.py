"""Settings that are more than a number or a text: pools of GPUs, host names, pairs."""

import pytest

from configs.errors import UserError
from configs.parsers import devices, file_path, host_names, lora_files, tiny_decoder


@pytest.mark.parametrize(
    ("text", "pool"),
    [("0", ("0",)), ("3, 1", ("3", "1")), ("", ()), ("-1", ()), ("GPU-ab12,1", ("GPU-ab12", "1"))],
)
def test_visible_devices(text: str, pool: tuple[str, ...]) -> None:
    assert devices("CUDA_VISIBLE_DEVICES", text) == pool


@pytest.mark.parametrize("text", ["0,,1", "0,", "1,1", "$(id)", "0;1", "a"])
def test_impossible_devices(text: str) -> None:
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        devices("CUDA_VISIBLE_DEVICES", text)


def test_what_they_make() -> None:
    assert devices("x", "0, 2") == ("0", "2") and devices("x", "-1") == devices("x", "") == ()
    assert host_names("x", "a.lan, b.lan") == ("a.lan", "b.lan")
    kind, file = tiny_decoder("x", ["tiny", "a.safetensors"])
    assert kind == "tiny" and file.name == "a.safetensors"
    assert file_path("x", "~/a").is_absolute()


def test_lora_files_with_and_without_scales() -> None:
    files = lora_files("--lora", ["a.safetensors", "b.safetensors:0.8", "c:d/e", "f:-1"])
    assert [(str(file), scale) for file, scale in files] == [
        ("a.safetensors", 1.0),
        ("b.safetensors", 0.8),
        ("c:d/e", 1.0),
        ("f", -1.0),
    ]
    assert lora_files("x", "a") == lora_files("x", ["a"])


@pytest.mark.parametrize("value", ["a:", "a:b", "a:nan", "a:1e9", ":1", "-a", [1], ""])
def test_what_is_no_lora_is_one_line(value: object) -> None:
    with pytest.raises(UserError, match="--lora") as error:
        lora_files("--lora", value)
    assert "\n" not in str(error.value)


def test_a_scale_that_is_no_number_is_shown_as_it_came() -> None:
    with pytest.raises(UserError, match="expected a number behind the ':', its scale, got 'b'"):
        lora_files("--lora", "a:b")


@pytest.mark.parametrize("value", ["tiny", ["tiny"], ["huge", "a"], ["tiny", "-a"], ["tiny", ""]])
def test_what_is_no_tiny_decoder_is_one_line(value: object) -> None:
    with pytest.raises(UserError, match="--vae") as error:
        tiny_decoder("--vae", value)
    assert "\n" not in str(error.value)


LONG = "ü" * 128  # 256 bytes


@pytest.mark.parametrize(
    "path", [LONG, f"/tmp/{LONG}/a", "a/" * 2500, "\ud800", "~nobody-has-this-name/a"]
)
def test_a_path_that_no_file_system_takes_is_one_line(path: str) -> None:
    with pytest.raises(UserError, match="^--start: expected") as error:
        file_path("--start", path)
    assert len(str(error.value)) < 200
