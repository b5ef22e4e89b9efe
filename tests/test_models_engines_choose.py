"""The choice of an engine: measured, remembered per machine and weights, or as asked."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.device import has_bfloat16
from models.engines import choose
from models.engines.choose import Choice, Timing, choose_engine, unfit
from models.engines.openvino import present
from models.engines.serve import decoder_threads
from models.parts import Parts
from tests.places import SHIPPED
from tests.tiny_checkpoint import write_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Checkpoint.open(write_checkpoint(tmp_path / "stage4"))


def _kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "the-matrix-live" / "engines").glob("*"))


def _pretend(monkeypatch: pytest.MonkeyPatch, **slow: float) -> list[list[str]]:
    """Measurements without measuring: 1 ms, or what is said for an engine."""
    calls: list[list[str]] = []

    def measure(checkpoint: Checkpoint, names: list[str]) -> dict[str, Timing]:
        calls.append(names)
        return {name: Timing(1.0, slow.get(name.replace("-", "_"), 1.0)) for name in names}

    monkeypatch.setattr(choose, "measure", measure)
    return calls


def test_measured_on_this_machine_and_remembered(checkpoint: Checkpoint, tmp_path: Path) -> None:
    told: list[str] = []
    first = choose_engine(checkpoint, CPU, tell=told.append)
    assert len(told) == 1 and "measuring" in told[0]  # seconds of silence are a riddle
    totals = {name: timing.step + timing.decode for name, timing in first.timings.items()}
    assert first.name == min(totals, key=lambda name: totals[name])
    assert "torch-fp32" in totals and ("torch-bf16" in totals) == has_bfloat16(CPU)
    assert ("openvino-fp32" in totals) == present()
    assert "openvino-int8" not in totals  # these weights have no ranges
    second = choose_engine(checkpoint, CPU, tell=told.append)
    assert len(told) == 1
    assert second.timings == first.timings and second.reason != first.reason
    assert len(_kept(tmp_path)) == 1 and first.name in str(first) and "ms" in str(first)


def test_several_ranks_are_told_to_step_with_pytorch() -> None:
    graph, plain = Choice("openvino-int8", "as asked", {}), Choice("torch-bf16", "as asked", {})
    assert graph.of(2) == f"{graph}; 2 ranks of the transformer step with PyTorch"
    assert graph.of(1) == str(graph) and plain.of(2) == str(plain)


def test_the_fastest_is_taken(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, torch_fp32=0.5)
    assert choose_engine(checkpoint, CPU).name == "torch-fp32"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"torch-fp32": {"step": -1}}', "[" * 10_000])
def test_a_broken_memory_is_replaced(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    calls = _pretend(monkeypatch)
    choose_engine(checkpoint, CPU)
    (file,) = _kept(tmp_path)
    file.write_text(content)
    choose_engine(checkpoint, CPU)
    choose_engine(checkpoint, CPU)
    assert len(calls) == 2 and json.loads(file.read_text())


def test_who_measured_first_decides(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs that start at once must not make different frames."""
    _pretend(monkeypatch, torch_fp32=0.5)
    choose_engine(checkpoint, CPU)
    (file,) = _kept(tmp_path)
    text = file.read_text()
    file.unlink()

    def late(checkpoint: Checkpoint, names: list[str]) -> dict[str, Timing]:
        file.write_text(text)
        return {name: Timing(1.0, 9.0 if name == "torch-fp32" else 1.0) for name in names}

    monkeypatch.setattr(choose, "measure", late)
    assert choose_engine(checkpoint, CPU).name == "torch-fp32"
    assert len(_kept(tmp_path)) == 1


def test_a_home_that_cannot_be_written_is_no_fault(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    _pretend(monkeypatch, torch_fp32=0.5)
    assert choose_engine(checkpoint, CPU).name == "torch-fp32"


def test_other_weights_are_measured_anew(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _pretend(monkeypatch)
    choose_engine(checkpoint, CPU)
    choose_engine(Checkpoint.open(write_checkpoint(tmp_path / "other", seed=1)), CPU)
    assert len(calls) == len(_kept(tmp_path)) == 2


def test_without_the_package_it_is_never_slower_than_pytorch_alone(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "present", lambda: False)
    calls = _pretend(monkeypatch)
    assert choose_engine(checkpoint, CPU).name == "torch-fp32"
    assert all(name.startswith("torch") for names in calls for name in names)
    with pytest.raises(UserError, match="openvino is not installed"):
        choose_engine(checkpoint, CPU, "openvino-fp32")


def test_large_weights_are_not_measured_and_compute_in_half_the_memory(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoint.number_format(CPU) is torch.float32
    monkeypatch.setattr("models.transformer_config.LARGE", 1)
    monkeypatch.setattr(choose, "measure", None)
    choice = choose_engine(checkpoint, CPU)
    chosen = replace(checkpoint, engine=choice.name)
    units = has_bfloat16(CPU)
    assert choice.name == ("torch-bf16" if units else "torch-fp32") and not choice.timings
    assert chosen.number_format(CPU) is (torch.bfloat16 if units else torch.float32)
    asked = replace(checkpoint, engine=choose_engine(checkpoint, CPU, "torch-fp32").name)
    assert asked.number_format(CPU) is torch.float32
    world = Parts(chosen, CPU).world()
    config = chosen.transformer_config
    world.reset(0, torch.zeros(2, config.max_text_seq_length, config.text_embed_dim))
    assert torch.isfinite(world.step(["D"]).latents).all()


def test_a_full_decoder_computes_in_bfloat16_with_large_weights_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Checkpoint.open(write_checkpoint(tmp_path / "stage4", full_vae=True))
    assert "torch-fp32 only" in unfit("torch-bf16", full, CPU)
    monkeypatch.setattr("models.transformer_config.LARGE", 1)
    assert unfit("torch-bf16", full, CPU) == ""
    assert "torch-fp32 only" in unfit("openvino-fp32", full, CPU)


def test_int8_needs_ranges_and_instructions(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(UserError, match="engine openvino-int8: these weights have no ranges"):
        choose_engine(checkpoint, CPU, "openvino-int8")
    shipped = Checkpoint.open(SHIPPED / "stage4")
    monkeypatch.setattr(choose, "multiplies_bytes", lambda: False)
    assert "no instructions" in unfit("openvino-int8", shipped, CPU)


def test_a_gpu_and_large_weights_are_not_measured(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _pretend(monkeypatch)
    assert choose_engine(checkpoint, torch.device("cuda")).name == "torch-bf16"
    with pytest.raises(UserError, match="a GPU runs torch-bf16 only"):
        choose_engine(checkpoint, torch.device("cuda"), "torch-fp32")
    config = replace(checkpoint.transformer_config, num_layers=30, num_attention_heads=120)
    large = replace(checkpoint, transformer_config=config)
    expected = "torch-bf16" if has_bfloat16(CPU) else "torch-fp32"
    assert choose_engine(large, CPU).name == expected and not calls


def test_the_full_autoencoder_runs_with_pytorch(tmp_path: Path) -> None:
    full = Checkpoint.open(write_checkpoint(tmp_path / "stage4", full_vae=True))
    assert choose_engine(full, CPU).name == "torch-fp32"
    with pytest.raises(UserError, match="full autoencoder"):
        choose_engine(full, CPU, "openvino-fp32")


def test_a_small_world_s_decoder_takes_the_threads_that_gain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.engines.serve.cores_of_each", lambda workers: 8 // workers)
    for engine in (None, "torch-fp32", "torch-bf16"):
        assert decoder_threads(small=True, engine=engine, workers=2) == 1
        assert decoder_threads(small=False, engine=engine, workers=2) == 4
    assert decoder_threads(small=True, engine="openvino-int8", workers=1) == 8
