"""The ten minutes on a GPU, tried small on a processor: every part that exists there, what is
written part by part, and how little has to be installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pipeline.bench.gpu as gpu
from pipeline.__main__ import main
from pipeline.bench.gpu import Setting
from tests.places import ROOT

NOT_NEEDED = (
    "ray diffusers transformers sentencepiece yaml simplejpeg imageio_ffmpeg starlette uvicorn"
)
NOT_NEEDED += " websockets prometheus_client psutil matplotlib PIL tqdm pytest"


def test_three_packages_are_enough() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED!r}.split()))\n"
    code += "from pipeline.__main__ import parser_of; parser_of('bench'); import pipeline.bench.gpu"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_part_on_a_processor_and_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {name: gpu.PATHS[name] for name in ("fused", "flash", "cudnn", "graph", "float8, graph")}
    monkeypatch.setattr(gpu, "PATHS", few)  # compiling takes a minute; its own test does it
    file = tmp_path / "gpu.json"
    torch.set_num_threads(1)
    assert main(["bench", "gpu", "--shape", "tiny", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())["gpu"]
    assert "failed" not in json.dumps(figures)
    compared = figures["equality"]
    assert "missing" in compared["cudnn"]
    assert all(r["ok"] for name, r in compared.items() if name != "cudnn")
    assert figures["peak"]["tera_operations"] > 0
    assert figures["step"]["plain"]["p50"] > 0 and figures["decode"]["tiny"]["p50"] > 0
    for name in ("full, after", "full, beside", "tiny, after", "tiny, beside"):
        assert figures["stream"][name]["fps"] > 0 and figures["stream"][name]["delay_ms"] > 0
    assert figures["ranks"]["gloo"]["error"] < 1e-5
    assert figures["tests"] == {"run": False}
    shown = capsys.readouterr().out
    assert "against the plain path" in shown and "tera-operations" in shown


def test_a_part_that_fails_leaves_the_others_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(setting: Setting) -> dict[str, float]:
        raise RuntimeError("out of memory")

    def fine(setting: Setting) -> dict[str, float]:
        kept = json.loads(file.read_text())
        assert "out of memory" in kept["equality"]["failed"]  # written before the next part began
        return {"ok": 1.0}

    file = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "equality", broken)
    broken.__name__ = "equality"
    for name in ("peak", "step", "decode", "stream", "ranks", "tests"):
        monkeypatch.setattr(gpu, name, fine)
    assert main(["bench", "gpu", "--shape", "tiny", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["gpu"]["fine"] == {"ok": 1.0}


def test_published_shapes_are_refused_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["bench", "gpu"]) == 2 and "--shape tiny" in capsys.readouterr().err
    assert main(["bench", "gpu", "--shape", "huge"]) == 2
