"""Settings that are more than a number or a text: pools of GPUs, host names, pairs."""

import pytest

from configs.errors import UserError
from configs.parsers import devices, file_path, host_names, tiny_decoder


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


@pytest.mark.parametrize("value", ["tiny", ["tiny"], ["huge", "a"], ["tiny", "-a"], ["tiny", ""]])
def test_what_is_no_tiny_decoder_is_one_line(value: object) -> None:
    with pytest.raises(UserError, match="--vae") as error:
        tiny_decoder("--vae", value)
    assert "\n" not in str(error.value)
