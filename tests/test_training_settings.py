"""Settings of a recipe: what cannot be is one line, before anything is rendered or trained."""

from pathlib import Path

import pytest

from configs.errors import UserError
from configs.load import load
from training import __main__ as recipe
from training.settings import TrainSettings


@pytest.mark.parametrize(
    "name", ["train_tiny", "grow_large", "fine_large", "tune_tiny", "four_groups"]
)
def test_the_shipped_recipes_are_readable(name: str) -> None:
    settings = load(TrainSettings, config=Path(f"configs/{name}.yaml"))
    assert settings.late_labels <= settings.noise_groups


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("latent_channels: -3", "latent_channels: expected a whole number from 1 to .*, got -3"),
        ("scale: 0", "scale: expected a whole number from 1 to 16, got 0"),
        ("scale: 100", "scale"),
        ("ranks: 0", "ranks"),
        ("ranks: 100000", "ranks: expected a whole number from 1 to 256, got 100000"),
        ("threads: 100000", "threads"),
        ("processes: 100000", "processes"),
        ("seed: -1", "seed"),
        ("autoencoder_steps: -1", "autoencoder_steps"),
        ("distill_teacher_steps: 0", "distill_teacher_steps"),
        ("road_share: 1.5", "road_share: expected a number from 0 to 1, got 1.5"),
        ("average_decay: 1.0", "average_decay"),
        ("diffusion_adam_rate: -0.1", "diffusion_adam_rate"),
        ("distill_judge: .nan", "distill_judge"),
        ("token: 3", "token: expected 1 or 2"),
        ("late_labels: 3", "late_labels: expected at most noise_groups, 2"),
        ("control_start: 7", "control_start: expected at most layers, 6"),
        ("encoder_widths: 4, 4", "encoder_widths: .*four channel counts"),
        ("decoder_widths: 4, 4, 4, 0", "decoder_widths"),
        ("scale: null", "scale"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(f"{line}\nwork: {tmp_path / 'work'}\n")
    with pytest.raises(UserError, match=said):
        load(TrainSettings, config=config)
    assert recipe.main([str(config)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and list(tmp_path.iterdir()) == [config]


def test_a_device_that_is_not_here_is_told_before_anything_is_rendered(
    tmp_path: Path, capsys
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(f"device: gpu\nwork: {tmp_path / 'work'}\n")
    assert recipe.main([str(config)]) == 2
    assert "device 'gpu'" in capsys.readouterr().err and list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--work", "{file}/work"], 1, "Not a directory"),
        (["--work", "{long}"], 2, "work: expected names of at most 255 bytes"),
        (["--output", "{long}"], 2, "output: expected names of at most 255 bytes"),
        (["--work", ""], 2, "work: expected a folder"),
        (["--output", ""], 2, "output: expected a folder"),
        (["--minutes", "nan"], 2, "--minutes: expected a number"),
        (["--minutes", "-1"], 2, "--minutes: expected a number"),
    ],
)
def test_folders_and_minutes_that_cannot_be_are_one_line(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys
) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(f"work: {tmp_path / 'work'}\n")
    given = [each.format(file=config, long="x" * 300) for each in arguments]
    assert recipe.main([str(config), "--stages", "text", *given]) == code
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == [config]
