"""The recipe at tiny sizes: losses fall, a resumed run equals an undisturbed one, ranks share a
step, exports load."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.parallel import SequenceGroup
from models.parts import Parts
from models.schedulers import alpha_table
from training import __main__ as recipe
from training import autoencoder, decoder, diffusion, distill, export, plots, ranks, text
from training.captions import PRESETS
from training.optimise import orthogonalised
from training.settings import TrainSettings

TINY = TrainSettings(
    ranks=1,
    threads=1,
    processes=1,
    shards=1,
    shard_clips=2,
    held_out_shards=1,
    clip_latents=17,
    scale=2,
    encoder_widths="4, 4, 8, 8",
    decoder_widths="16, 16, 8, 4",
    autoencoder_steps=6,
    autoencoder_latents=2,
    decoder_steps=4,
    heads=2,
    head_width=16,
    layers=2,
    time_width=16,
    control_width=16,
    text_width=16,
    text_layers=1,
    text_steps=20,
    diffusion_steps=6,
    own_share=0.5,
    diffusion_windows=3,
    distill_steps=4,
    distill_streams=2,
    distill_teacher_steps=2,
    distill_judge=0.3,
)
ALONE = SequenceGroup.single()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """Settings whose work folder holds finished runs of all three trainings."""
    folder = tmp_path_factory.mktemp("recipe")
    settings = replace(TINY, work=str(folder / "work"), output=str(folder / "tiny"))
    torch.set_num_threads(1)
    assert recipe.run(
        settings, ["data", "autoencoder", "diffusion", "distill", "decoder"], None, early=False
    )
    return settings


def weights(settings: TrainSettings, run: str) -> dict[str, torch.Tensor]:
    folder = Path(settings.work) / run
    about = json.loads((folder / "run.json").read_text())
    found: dict[str, torch.Tensor] = {}
    for piece in about["pieces"]:
        assert (folder / about["state"] / piece).stat().st_size <= 16 * 2**20
        found |= load_file(folder / about["state"] / piece)
    return found


@pytest.mark.parametrize("run", ["autoencoder", "diffusion", "distill", "decoder"])
def test_resumed_equals_undisturbed(
    trained: TrainSettings, tmp_path: Path, run: str, monkeypatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for shared in ("train", "held_out", "spiece.model", "text.safetensors", *ranks.STAGES):
        if shared != run:
            (work / shared).symlink_to(Path(trained.work) / shared)
    settings = replace(trained, work=str(work))
    over = iter([False, False, True])
    monkeypatch.setattr("training.run.Run._over", lambda *_: next(over, False))
    assert not ranks.STAGES[run](settings, ALONE, None)
    assert ranks.STAGES[run](settings, ALONE, None)
    whole, resumed = weights(trained, run), weights(settings, run)
    assert whole.keys() == resumed.keys()
    different = [name for name in whole if not torch.equal(whole[name], resumed[name])]
    assert not different


def test_a_judged_decoder_resumes_and_is_the_one_that_is_used(
    trained: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("whole", "resumed"):
        work = tmp_path / name
        work.mkdir()
        for shared in ("train", "held_out", "spiece.model", "text.safetensors", *ranks.STAGES):
            if shared != "decoder":
                (work / shared).symlink_to(Path(trained.work) / shared)
        settings = replace(trained, work=str(work), decoder_judge=0.5)
        over = iter([False, False, True] if name == "resumed" else [])
        monkeypatch.setattr("training.run.Run._over", lambda *_, over=over: next(over, False))
        while not decoder.train(settings, ALONE, None):
            pass
        found.append(weights(settings, "decoder"))
    whole, resumed = found
    assert whole.keys() == resumed.keys() and any(".judge." in name for name in whole)
    assert not [name for name in whole if not torch.equal(whole[name], resumed[name])]
    for name, tensor in autoencoder.trained(settings).decoder.state_dict().items():
        assert torch.equal(tensor, whole[f"module.decoder.{name}"])
    plain = weights(trained, "decoder")
    assert any(not torch.equal(plain[name], whole[name]) for name in plain if "module" in name)


def test_losses_fall(tmp_path: Path, trained: TrainSettings) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for shared in ("train", "held_out"):
        (work / shared).symlink_to(Path(trained.work) / shared)
    settings = replace(trained, work=str(work), autoencoder_steps=60)
    autoencoder.train(settings, ALONE)
    log = [
        json.loads(line) for line in (work / "autoencoder" / "log.jsonl").read_text().splitlines()
    ]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert log[-1]["psnr"] > log[0]["psnr"] + 2


def test_two_ranks_share_a_step_and_stay_equal(trained: TrainSettings, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for shared in ("train", "held_out", "spiece.model", "text.safetensors", "autoencoder"):
        (work / shared).symlink_to(Path(trained.work) / shared)
    settings = replace(trained, work=str(work), ranks=2, diffusion_windows=4, diffusion_steps=3)
    assert ranks.train("diffusion", settings, None)
    assert json.loads((work / "diffusion" / "run.json").read_text())["step"] == 3


def test_latents_of_the_trained_autoencoder_are_normalised(trained: TrainSettings) -> None:
    data = diffusion.encode(autoencoder.trained(trained), trained, torch.device("cpu"))
    assert data.latents.shape == (2, 17, 16, 12, 18)
    assert data.latents.float().std() < 10
    model, _, _ = decoder.build(trained)
    video = torch.rand(1, 4, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        expected = model.encode(video)
        torch.testing.assert_close(
            autoencoder.trained(trained).encode(video), expected, rtol=1e-4, atol=1e-4
        )


def test_frames_that_only_latents_are_made_of_do_not_stay(
    trained: TrainSettings, tmp_path: Path
) -> None:
    """Of three shards the frames of one are kept; the latents are those that all would give."""
    few = replace(trained, shards=3, shard_clips=1, clip_latents=2, work=str(tmp_path / "few"))
    few = replace(few, pixel_shards=1)
    every = replace(few, pixel_shards=0, work=str(tmp_path / "every"))
    vae, device = autoencoder.trained(trained), torch.device("cpu")
    autoencoder.data(few)
    assert recorded(few) == ["0000"]
    for held_out in (False, True):
        ours, theirs = (diffusion.encode(vae, s, device, held_out) for s in (few, every))
        assert all(torch.equal(a, b) for a, b in zip(vars(ours).values(), vars(theirs).values()))
    assert recorded(few) == ["0000"] and recorded(every) == ["0000", "0001", "0002"]
    assert not list((tmp_path / "few" / "held_out").glob("*.npz"))
    again = diffusion.encode(vae, few, device)  # found: nothing is recorded for it
    assert torch.equal(again.latents, diffusion.encode(vae, every, device).latents)


def recorded(settings: TrainSettings) -> list[str]:
    return sorted(path.stem for path in (Path(settings.work) / "train").glob("*.npz"))


def test_a_decoder_of_other_widths_starts_afresh_on_the_same_latents(
    trained: TrainSettings, tmp_path: Path
) -> None:
    output = str(tmp_path / "tiny")
    recipe.run(replace(trained, output=output), ["export"], None, early=False)
    wider = replace(
        trained, start=output, work=str(tmp_path / "work"), decoder_widths="16, 16, 12, 8"
    )
    wider = replace(wider, output=str(tmp_path / "wider"))
    tensors = load_file(tmp_path / "tiny/stage3/vae/diffusion_pytorch_model.safetensors")
    model, _, _ = decoder.build(wider)
    own = model.vae.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape == own[name].shape:
            torch.testing.assert_close(own[name], tensor.float(), rtol=0, atol=0)
    fresh = {name for name in tensors if tensors[name].shape != own[name].shape}
    assert fresh and not any(name.startswith("encoder.") for name in fresh)
    assert [
        name for name, p in model.named_parameters() if p.requires_grad and "decoder" not in name
    ] == []
    with pytest.raises(UserError, match="run the stage decoder first"):
        autoencoder.trained(wider)
    # dreams of the student it started with
    assert recipe.run(wider, ["data", "decoder", "export"], None, early=True)
    exported = load_file(Path(wider.output) / "stage3/vae/diffusion_pytorch_model.safetensors")
    assert {name for name in tensors if exported[name].shape != tensors[name].shape} == fresh
    with pytest.raises(UserError, match="encoder_widths"):
        autoencoder.build(replace(wider, encoder_widths="4, 4, 8, 12"))


def test_distillation_may_go_on_from_a_trained_student(
    trained: TrainSettings, tmp_path: Path
) -> None:
    output = str(tmp_path / "tiny")
    recipe.run(replace(trained, output=output), ["export"], None, early=False)
    student = load_file(tmp_path / "tiny/stage4/transformer/diffusion_pytorch_model.safetensors")
    teacher = load_file(tmp_path / "tiny/stage3/transformer/diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(student[name], teacher[name]) for name in student)
    none = torch.zeros(1, 17, 16, 12, 18), torch.zeros(1, 17), torch.zeros(1, 17, 3)
    for go_on, expected in ((False, teacher), (True, student)):
        work = str(tmp_path / f"work {go_on}")
        settings = replace(trained, start=output, work=work, distill_start=go_on)
        batches = diffusion.Batches(diffusion.Latents(*none), text.tokenizer(settings), settings)
        streams, _ = distill.build(settings, batches)
        found = streams.student.transformer.state_dict()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor.float(), rtol=0, atol=0)


def test_dreamed_latents_follow_the_true_ones_and_their_labels(trained: TrainSettings) -> None:
    dreamer = decoder.Dreamer(trained)
    # four steps have hardly moved it from zero
    torch.nn.init.normal_(dreamer.student.transformer.proj_out.weight)
    piece = autoencoder.Clips(trained, ALONE).draw(0, 6)
    latents = torch.randn(
        len(piece.labels), 6, 16, 12, 18, generator=torch.Generator().manual_seed(1)
    )
    dreamed = dreamer.dream(latents, piece, torch.Generator().manual_seed(2))
    assert dreamed.shape == latents[:, 1:5].shape and dreamed.isfinite().all()
    later = latents.clone()
    later[:, 4] += 1
    again = dreamer.dream(later, piece, torch.Generator().manual_seed(2))
    torch.testing.assert_close(again[:, :3], dreamed[:, :3])  # the newest of a window is pure noise
    assert not torch.equal(again[:, 3], dreamed[:, 3])
    turned = autoencoder.ClipBatch(piece.video, (piece.labels + 1) % 9, piece.scenes)
    assert not torch.equal(
        dreamer.dream(latents, turned, torch.Generator().manual_seed(2)), dreamed
    )


def test_losses_are_plotted_for_what_was_run(tmp_path: Path, capsys) -> None:
    work = tmp_path / "work"
    (work / "decoder").mkdir(parents=True)
    lines = [{"step": 20, "psnr": 20.0}, {"step": 40, "psnr": 21.0, "dreamed_psnr": 19.0}]
    (work / "decoder" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert plots.main(["--plots", str(tmp_path / "plots"), "losses", str(work)]) == 0
    assert (tmp_path / "plots" / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert plots.main(["--plots", str(tmp_path), "losses", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: losses")


def test_no_student_is_said_in_one_line(trained: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stage distill first, or export with --early"):
        distill.trained(replace(trained, work=str(tmp_path)))


def test_early_and_final_exports_load_and_stream(trained: TrainSettings) -> None:
    for distilled in (False, True):
        assert export.write(trained, distilled=distilled) < 40e6
        for stage, calls in (("stage4", 1), ("stage3", 10)):
            checkpoint = Checkpoint.open(Path(trained.output) / stage)
            assert checkpoint.presets == list(PRESETS)
            assert checkpoint.streaming.inner_steps == calls
            world = Parts(checkpoint, torch.device("cpu"), "float32").world()
            world.reset(1, PRESETS[3], checkpoint.start_latents(PRESETS[3]))
            emitted = world.step(["DL"])
            assert emitted.latents.shape == (1, 16, 12, 18)
            frames = (
                checkpoint.autoencoder(torch.device("cpu"), torch.float32)
                .stream()
                .push(emitted.latents)
            )
            assert frames.shape == (4, 192, 288, 3)
    assert Checkpoint.open(Path(trained.output) / "stage2").streaming.late_labels == 1
    guided = {
        k: Checkpoint.open(Path(trained.output) / f"stage{k}").streaming.control_guidance
        for k in (2, 3, 4)
    }
    assert guided == {2: 1.0, 3: trained.control_guidance, 4: 1.0}


def test_exported_text_path_is_the_trained_one(trained: TrainSettings) -> None:
    export.write(trained)
    checkpoint = Checkpoint.open(Path(trained.output) / "stage3")
    model = diffusion.trained(trained)
    prompts = [PRESETS[0], "A PURPLE dragon, zzz!", ""]
    tokens = torch.tensor([text.tokenizer(trained)(prompt) for prompt in prompts])
    with torch.no_grad():
        expected = model.text(input_ids=tokens).last_hidden_state
    found = checkpoint.text_encoder(torch.device("cpu"), torch.float32).encode(prompts).embeddings
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)  # stored in fp16


def test_training_goes_on_from_exported_weights(trained: TrainSettings, tmp_path: Path) -> None:
    export.write(trained, distilled=False)
    later = replace(trained, work=str(tmp_path), start=trained.output)
    world, _ = diffusion.build(later)
    for name, tensor in diffusion.trained(trained).state_dict().items():
        if "shared" not in name:  # tied to embed_tokens
            torch.testing.assert_close(
                world.state_dict()[name], tensor, rtol=0, atol=2e-3, msg=name
            )
    model, _ = autoencoder.build(later)
    stored = {
        name: tensor.half().float()
        for name, tensor in autoencoder.trained(trained).state_dict().items()
    }
    # exactly what fp16 keeps
    torch.testing.assert_close(model.vae.state_dict(), stored, rtol=0, atol=0)
    with pytest.raises(UserError, match="start: expected a folder of exported weights"):
        autoencoder.build(replace(later, start=str(tmp_path)))


def test_guidance_of_the_teacher_moves_its_ends(trained: TrainSettings) -> None:
    vae = autoencoder.trained(trained)
    data = diffusion.encode(vae, trained, torch.device("cpu"))
    batches = diffusion.Batches(data, text.tokenizer(trained), trained)
    teacher = diffusion.trained(trained)
    streams = distill.Streams(teacher, batches, 2, 0, 2)
    streams.prepare(0, trained.late_labels)
    plain, same, text_more, keys_more = (
        distill.teacher_end(teacher, streams, 2, *scales)
        for scales in ((), (1.0, 1.0), (2.0, 1.0), (1.0, 2.0))
    )
    assert torch.equal(plain, same)
    assert not torch.equal(plain, text_more) and not torch.equal(plain, keys_more)
    assert not torch.equal(text_more, keys_more)


def test_distillation_walks_from_the_row_to_the_phase_edges() -> None:
    assert distill.timestep_row(2) == [0, 499, 999]
    assert distill.phase_edges(2) == [0, 0, 499]
    assert distill.timestep_row(4) == [0, 249, 499, 749, 999]
    assert distill.phase_edges(4) == [0, 0, 249, 499, 749]


def test_late_labels_repeat_the_last_known_one_in_the_newest_latents() -> None:
    labels = torch.arange(5).expand(400, -1)
    seen = {
        tuple(row)
        for row in diffusion.late_or_dropped(labels, torch.Generator().manual_seed(0)).tolist()
    }
    dropped = (diffusion.NULL_ID,) * 5
    assert seen == {(0, 1, 2, 3, 4), (0, 1, 2, 3, 3), (0, 1, 2, 2, 2), (0, 1, 1, 1, 1), dropped}


def test_a_model_that_knows_foresees_the_latent_that_comes() -> None:
    latents = torch.randn(6, 3, 2, 4, 4)

    def knows(noised: torch.Tensor, timesteps: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        level = alpha_table().float()[timesteps][:, :, None, None, None]
        noise = (noised - level.sqrt() * latents) / (1 - level).sqrt()
        return level.sqrt() * noise - (1 - level).sqrt() * latents

    given = (torch.zeros(6, 3), torch.zeros(6, 4), torch.Generator().manual_seed(0))
    found = diffusion.foreseen(knows, latents, *given)  # type: ignore[arg-type]
    assert torch.allclose(found, latents[:, -1], atol=1e-3)


def test_reverse_and_changing_scenes_are_drawn_more_often_than_drivers_choose_them() -> None:
    labels, scenes = torch.zeros(40, 24, dtype=torch.long), torch.zeros(40, 24, 3, dtype=torch.long)
    labels[:, 7], scenes[20:, 12:, 0] = diffusion.REVERSE[0], 1
    data = diffusion.Latents(torch.zeros(40, 24, 1, 1, 1), labels, scenes)
    batches = diffusion.Batches(data, lambda words: [0], TINY)  # type: ignore[arg-type]
    latents, drawn, tokens = batches.windows(np.random.default_rng(0), 4000, 3)
    assert latents.shape == (4000, 3, 1, 1, 1) and tokens.shape == (4000, 1)
    seldom = 1 / 22  # of the places where a window may end
    plain = (1 - TINY.reverse_share) * seldom + TINY.reverse_share
    expected = (1 - diffusion.CHANGE_SHARE) * plain
    assert float((drawn[:, -1] == diffusion.REVERSE[0]).float().mean()) == pytest.approx(
        expected, abs=0.02
    )


def test_muon_steps_are_orthogonal() -> None:
    values = torch.linalg.svdvals(
        orthogonalised(torch.randn(24, 40, generator=torch.Generator().manual_seed(0)))
    )
    assert values.min() > 0.5 and values.max() < 1.5


def test_bad_recipe_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("autoencoder_step: 5\n")
    assert recipe.main([str(config)]) == 2
    assert "autoencoder_steps" in capsys.readouterr().err


def test_what_was_saved_outlives_a_save_that_fails(
    trained: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained.work, work)
    settings = replace(trained, work=str(work))
    before = {path: path.read_bytes() for path in (work / "decoder").rglob("*.safetensors")}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.run.save_file", full)
    assert ranks.STAGES["decoder"](settings, ALONE, None), "done before: nothing to save"
    more = replace(settings, decoder_steps=settings.decoder_steps + 1)
    with pytest.raises(OSError, match="No space left"):
        ranks.STAGES["decoder"](more, ALONE, None)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("damage", ["run.json", "piece", "piece gone", "other sizes"])
def test_a_damaged_checkpoint_is_one_line(
    trained: TrainSettings, tmp_path: Path, damage: str
) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained.work, work)
    settings = replace(trained, work=str(work))
    [piece] = (work / "diffusion").rglob("*.safetensors")
    if damage == "run.json":
        (work / "diffusion" / "run.json").write_text('{"step": 6, "se')
    elif damage == "piece":
        os.truncate(piece, 5000)
    elif damage == "piece gone":
        piece.unlink()
    else:
        settings = replace(settings, layers=3)
    with pytest.raises(UserError, match=f"^{work / 'diffusion'}: .*delete") as error:
        ranks.STAGES["diffusion"](settings, ALONE, None)
    assert "\n" not in str(error.value)


def test_damaged_latents_are_made_again(trained: TrainSettings, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained.work, work)
    latents = work / "train" / "0000.safetensors"
    whole = latents.read_bytes()
    os.truncate(latents, 3000)
    assert ranks.STAGES["diffusion"](replace(trained, work=str(work)), ALONE, None)
    assert latents.read_bytes() == whole


@pytest.mark.parametrize("half", ["train/0000.safetensors", "text.safetensors"])
def test_what_a_killed_training_wrote_in_half_never_has_its_name(
    trained: TrainSettings, tmp_path: Path, half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained.work, work)
    (work / half).unlink()
    shutil.rmtree(work / "diffusion")

    def killed(tensors: object, path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    for module in ("models.saving", "training.diffusion", "training.text"):
        monkeypatch.setattr(f"{module}.save_file", killed, raising=False)
    settings = replace(trained, work=str(work))
    with pytest.raises(KeyboardInterrupt):
        recipe.run(settings, ["text", "diffusion"], None, early=False)
    assert not (work / half).exists()
