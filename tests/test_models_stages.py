"""Which stage a weight folder is: told by its settings, its name, or what it holds."""

from pathlib import Path

import pytest

from configs.errors import UserError
from configs.schema import StreamSettings
from models.stages import check_stage, read_streaming
from models.weight_folder import model_folder
from tests.places import SHIPPED


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [("stage2", "stage2"), ("stage3", "stage3"), ("stage4", "stage4"), ("stage4", "stage3")],
)
def test_the_embedded_stages_are_what_they_are(stage: str, wanted: str) -> None:
    check_stage(SHIPPED / stage, wanted)


@pytest.mark.parametrize(
    ("stage", "wanted", "message"),
    [
        (
            "stage2",
            "stage4",
            r"this is stage 2 \(by its name\), which makes base clips; .*tiny/stage4",
        ),
        ("stage2", "stage3", r"give one that streams \(3 or 4\), such as .*tiny/stage3"),
        ("stage3", "stage2", r"this is stage 3 .* which streams; .*\(stage 2\), such as .*stage2"),
        ("stage4", "stage2", r"this is stage 4 \(says streaming.json\)"),
    ],
)
def test_a_folder_of_another_stage_is_refused(stage: str, wanted: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        model_folder(SHIPPED / stage, wanted)
    assert "\n" not in str(error.value)


def test_settings_tell_a_stage_that_was_renamed(tmp_path: Path) -> None:
    (tmp_path / "stage2").mkdir()
    (tmp_path / "stage2/streaming.json").write_text('{"solver": "consistency"}')
    with pytest.raises(UserError, match="this is stage 4"):
        check_stage(tmp_path / "stage2", "stage2")


@pytest.mark.parametrize(
    ("name", "whole", "four_bytes", "solver"),
    [
        ("stage2", True, False, "dpm"),
        ("stage3", True, False, "dpm"),
        ("stage3", True, True, "dpm"),  # converted
        ("stage3", False, False, "dpm"),  # its other parts elsewhere
        ("stage4", False, True, "consistency"),
        ("stage4", False, False, "consistency"),  # converted
        ("stage4", True, True, "consistency"),  # put together with stage 3's parts
        ("mine", True, True, "dpm"),
        ("mine", False, False, "consistency"),
    ],
)
def test_published_folders_stream_as_their_stage(
    tmp_path: Path, name: str, whole: bool, four_bytes: bool, solver: str
) -> None:
    (tmp_path / name).mkdir()
    assert read_streaming(tmp_path / name, whole, four_bytes).solver == solver


@pytest.mark.parametrize(
    ("name", "whole", "looks"),
    [("stage4", True, "stage 2's or 3's"), ("stage3", False, "4's"), ("stage2", False, "4's")],
)
def test_published_stages_that_were_swapped_are_refused(
    tmp_path: Path, name: str, whole: bool, looks: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(UserError, match=f"called {name}, but it holds what looks like .*{looks}"):
        read_streaming(folder, whole, four_bytes=not whole)
    (folder / "streaming.json").write_text("{}")  # who says what it is, is believed
    assert read_streaming(folder, whole, four_bytes=not whole) == StreamSettings()
