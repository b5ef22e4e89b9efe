"""The streaming loop: labels, seeds, resuming, late labels, and N ranks against one."""

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import StreamSettings
from models.noise import SeededNoise
from models.parallel import SequenceGroup
from models.world import Emission, World
from tests.ranks import run_ranks
from tests.small_world import CONFIG, CPU, SmallWeights, embed_letters, small_world

STAGE4 = StreamSettings()
TWO_GROUPS = StreamSettings(noise_groups=2, inference_steps=2, late_labels=2)
STAGE3 = StreamSettings(window_size=2, inference_steps=8, solver="dpm")
EIGHT_STEPS = StreamSettings(inference_steps=8)
ALL = [STAGE4, TWO_GROUPS, STAGE3, EIGHT_STEPS]
KEYS = ("D", "D", "DL", "DL", "DR", "B", "N", "NL", "D", "DR", "DR", "D")


def drive(world: World, steps: int, first: int = 0) -> Tensor:
    """Step with the labels of KEYS and return the latents."""
    window = world.settings.window_size
    labels = [KEYS[i % len(KEYS)] for i in range((first + steps) * window)]
    emitted = [
        world.step(labels[i * window : (i + 1) * window], cursor=i).latents
        for i in range(first, first + steps)
    ]
    return torch.cat(emitted)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_same_seed_same_bytes_and_other_seeds_differ(settings: StreamSettings) -> None:
    world = small_world(settings)
    streams = []
    for seed in (1, 1, 2):
        world.reset(seed, "a prompt")
        streams.append(drive(world, 6))
    assert torch.equal(streams[0], streams[1]) and not torch.allclose(streams[0], streams[2])
    assert torch.isfinite(streams[0]).all()


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_a_resumed_stream_equals_an_undisturbed_one(settings: StreamSettings) -> None:
    world = small_world(settings)
    world.reset(7, "a prompt", start=torch.randn(3, 4, 6, 10))
    drive(world, 3)
    world.set_prompt("another prompt", version=9)
    state = world.state()
    undisturbed = drive(world, 5, first=3)
    other = small_world(settings)
    other.load_state(state)
    assert torch.equal(drive(other, 5, first=3), undisturbed)
    after, again = vars(other.state()), vars(world.state())
    assert after["prompt_version"] == 9
    for name in ("latents", "text"):
        assert torch.equal(after.pop(name), again.pop(name))
    assert after == again


def test_a_state_is_a_copy() -> None:
    world = small_world()
    world.reset(7, "a prompt")
    state = world.state()
    kept = state.latents.clone()
    drive(world, 3)
    assert torch.equal(state.latents, kept) and state.latents.device == CPU


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_labels_and_prompts_matter(settings: StreamSettings) -> None:
    world = small_world(settings)

    def run(prompt: str, label: str) -> Tensor:
        world.reset(1, prompt)
        return torch.cat([world.step([label] * settings.window_size).latents for _ in range(6)])

    straight = run("a prompt", "D")
    assert not torch.allclose(straight, run("a prompt", "DL"), atol=1e-3)
    assert not torch.allclose(straight, run("a longer prompt", "D"), atol=1e-3)


def test_noise_depends_on_seed_latent_and_draw_alone() -> None:
    noise = SeededNoise(3, (4, 6, 10))
    later = noise.fresh(20, 2)
    noise.step(5, [1, 2, 3], False)
    assert torch.equal(noise.fresh(19, 3)[1:], later)
    assert torch.equal(SeededNoise(3, (4, 6, 10)).fresh(20, 2), later)
    assert torch.equal(noise.step(20, [0, 0], True), later)
    draws = [noise.draw(latent, draw) for latent in (0, 1, 2**40) for draw in (0, 1, 2**33)]
    draws.append(SeededNoise(4, (4, 6, 10)).draw(0, 0))
    assert len({tuple(draw.flatten()[:4].tolist()) for draw in draws}) == 10
    many = torch.stack([noise.draw(i, 0) for i in range(200)])
    assert abs(float(many.mean())) < 0.02 and abs(float(many.std()) - 1) < 0.02


class _Recorder:
    """Seeded noise that writes down which draws were asked for."""

    def __init__(self) -> None:
        self.seeded = SeededNoise(0, (4, 6, 10))
        self.asked: Counter[tuple[int, int]] = Counter()

    def fresh(self, first: int, count: int) -> Tensor:
        self.asked.update((latent, 0) for latent in range(first, first + count))
        return self.seeded.fresh(first, count)

    def step(self, first: int, draws: list[int], second_order: bool) -> Tensor:
        self.asked.update((first + i, draw) for i, draw in enumerate(draws))
        return self.seeded.step(first, draws, second_order)


@pytest.mark.parametrize("settings", [STAGE3, EIGHT_STEPS], ids=str)
def test_no_draw_is_used_twice_and_every_latent_gets_all_of_its_own(
    settings: StreamSettings,
) -> None:
    recorder = _Recorder()
    world = small_world(settings, noise=recorder)
    world.reset(0, "a prompt")
    drive(world, 8)
    assert set(recorder.asked.values()) == {1}
    late = settings.noise_groups * settings.window_size + 2  # entered as pure noise and has left
    used = {draw for latent, draw in recorder.asked if latent == late and draw}
    expected = set(range(1, settings.inference_steps + 1))
    # In the consistency solver only steps that end inside a phase re-noise; their whole row draws.
    assert used == expected if settings.solver == "dpm" else used and used < expected


def emissions(world: World, labels: list[list[str]]) -> list[Emission]:
    return [world.step(now, cursor=i + 1) for i, now in enumerate(labels)]


def test_published_label_order() -> None:
    """Label k belongs to latent k: with one late label it leaves G - 1 steps after it was given."""
    world = small_world(STAGE4)
    world.reset(0, "p", labels=["D", "DL", "DR", "B", "BL"])
    out = emissions(world, [["BL"], ["BR"], ["N"], ["NL"], ["NR"], ["D"], ["D"], ["D"]])
    assert [e.labels[0] for e in out] == ["DL", "DR", "B", "BL", "BR", "N", "NL", "NR"]
    assert [e.cursors[0] for e in out] == [0, 0, 0, 1, 2, 3, 4, 5]
    assert [e.index for e in out] == list(range(8))


def test_late_labels_reach_the_latent_being_made() -> None:
    world = small_world(TWO_GROUPS)
    world.reset(0, "p")
    out = emissions(world, [["D"], ["DL"], ["DR"]])
    assert [e.labels[0] for e in out] == ["D", "DL", "DR"] and [e.cursors[0] for e in out] == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(("late", "delay"), [(1, 3), (2, 2), (3, 1), (4, 0)])
def test_each_late_label_saves_a_step(late: int, delay: int) -> None:
    world = small_world(replace(STAGE4, late_labels=late))
    world.reset(0, "p")
    out = emissions(world, [["D"]] * 6 + [["DL"]] * 4)
    first = next(i for i, e in enumerate(out) if e.labels == ("DL",))
    assert first == 6 + delay
    assert out[first].cursors == (7,) if late == 1 else out[first].cursors[0] >= 7


def test_late_labels_of_wider_windows() -> None:
    world = small_world(replace(STAGE4, window_size=2, late_labels=2))
    world.reset(0, "p")
    world.step(["DL", "DR"])
    assert world.labels == ("D", "D", "D", "D", "D", "DR", "DR", "DL", "DR")


def test_shorter_starts_are_padded_with_zeros_and_longer_ones_cut() -> None:
    world = small_world()
    start = torch.randn(9, 4, 6, 10)
    padded = torch.cat((start[:2], torch.zeros(3, 4, 6, 10)))
    states = []
    for clean in (start, start[:5], start[:2], padded, None, start[:0], torch.zeros(5, 4, 6, 10)):
        world.reset(1, "p", start=clean)
        states.append(world.state().latents)
    assert torch.equal(states[0], states[1]) and torch.equal(states[2], states[3])
    assert torch.equal(states[4], states[5]) and torch.equal(states[4], states[6])
    assert not torch.equal(states[1], states[2])


def test_guidance_of_one_is_none_and_more_pushes_away_from_the_empty_prompt() -> None:
    prompt = embed_letters(["a prompt", ""])
    streams = {}
    for guidance in (1.0, 1.0001, 3.0):
        world = small_world(STAGE3, guidance=guidance)
        world.reset(1, prompt)
        streams[guidance] = drive(world, 3)
    torch.testing.assert_close(streams[1.0], streams[1.0001], atol=0.01, rtol=0.01)
    assert not torch.allclose(streams[1.0], streams[3.0], atol=0.1)
    with pytest.raises(UserError, match="prompt embedding"):
        world.set_prompt(prompt[:1])


def test_guidance_towards_the_labels_goes_on_from_where_no_label_leads() -> None:
    def first(scale: float, label: str) -> Tensor:
        world = small_world(replace(TWO_GROUPS, control_guidance=scale))
        world.reset(1, "a prompt", start=torch.ones(3, 4, 6, 10), labels=[label] * 3)
        return world.step([label]).latents

    unled, plain, further = (first(scale, "DL") for scale in (0.0, 1.0, 2.0))
    torch.testing.assert_close(unled, first(0.0, "B"), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain, unled, atol=1e-3)
    # one call is linear in velocity
    torch.testing.assert_close(further - plain, plain - unled, atol=1e-4, rtol=1e-4)


def test_without_a_scale_a_world_is_guided_as_its_weights_are_served() -> None:
    def first(settings: StreamSettings, **options: float) -> Tensor:
        world = small_world(settings, **options)
        world.reset(5, "a prompt")
        return world.step(["DL"] * settings.window_size).latents

    served = STAGE3.guidance_scale
    assert torch.equal(first(STAGE3), first(STAGE3, guidance=served))
    assert not torch.allclose(first(STAGE3), first(STAGE3, guidance=1.0), atol=1e-3)
    assert torch.equal(first(STAGE4), first(STAGE4, guidance=1.0))


def test_a_branch_has_a_future_of_its_own() -> None:
    for settings in (STAGE4, STAGE3):
        world = small_world(settings)
        world.reset(3, "a prompt")
        labels = [["D"] * settings.window_size] * 3
        world.step(labels[0])
        other = world.branch()
        assert other.transformer is world.transformer
        turned = other.step(["DL"] * settings.window_size).latents
        straight = [world.step(label).latents for label in labels]
        assert other.index == 2 * settings.window_size and world.index == 4 * settings.window_size
        undisturbed = small_world(settings)
        undisturbed.reset(3, "a prompt")
        whole = [undisturbed.step(label).latents for label in (labels[0], *labels)]
        assert torch.equal(torch.cat(straight), torch.cat(whole[1:]))
        assert settings.late_labels < settings.noise_groups or not torch.equal(turned, straight[0])


def test_other_sizes_and_solvers_than_the_weights_default() -> None:
    world = small_world(replace(STAGE4, solver="dpm"), size=(4, 6))
    world.reset(1, "p")
    assert drive(world, 2).shape == (2, 4, 4, 6) and world.settings.solver == "dpm"


def test_what_a_world_refuses() -> None:
    for size in ((6, 5), (0, 8), (-2, 8), (1, 8)):
        with pytest.raises(UserError, match="multiples of 2"):
            small_world(size=size)
    with pytest.raises(UserError, match="do not fit 4 phases"):
        small_world(StreamSettings(original_steps=50))
    with pytest.raises(UserError, match="4 DiT ranks .* 1, 2, 3, 6"):
        small_world(group=SequenceGroup(0, 4))
    world = small_world()
    with pytest.raises(UserError, match="reset"):
        world.step(["D"])
    with pytest.raises(UserError, match="needs a prompt"):
        world.reset(1)
    with pytest.raises(UserError, match="seed"):
        world.reset(-1, "p")
    with pytest.raises(UserError, match="start latents"):
        world.reset(1, "p", start=torch.zeros(1, 4, 6, 9))
    with pytest.raises(UserError, match="unknown control label"):
        world.reset(1, "p", labels=["X"])
    world.reset(1, "p")
    for labels in ([], ["D", "D"]):
        with pytest.raises(UserError, match="takes 1 labels"):
            world.step(labels)
    with pytest.raises(UserError, match="unknown control label"):
        world.step(["d"])
    with pytest.raises(UserError, match="does not fit"):
        small_world(TWO_GROUPS).load_state(world.state())


def test_broken_latents_are_an_error_and_leave_the_world_as_it_was() -> None:
    world = small_world()
    world.reset(1, "p")
    before = world.state()
    good = world.transformer.proj_out.bias.clone()
    world.transformer.proj_out.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="latent 0"):
        world.step(["DL"])
    world.transformer.proj_out.bias.copy_(good)
    after = world.state()
    assert (
        torch.equal(after.latents, before.latents)
        and after.labels == before.labels
        and after.index == 0
    )


def _refuse(*_: object) -> None:
    raise AssertionError("this is constant between outer steps")


@pytest.mark.parametrize("settings", [STAGE4, STAGE3], ids=str)
def test_steps_repeat_nothing_that_is_constant(settings: StreamSettings) -> None:
    """Text projection: once per prompt. Time embedding, modulation, control keys and values: once
    per world."""
    world = small_world(settings)
    world.reset(1, "a prompt")
    once = r"text_proj|time_embedding|control_embedding|norm[^.]*\.linear|control_blocks.*\.to_[kv]"
    modules = [
        module
        for name, module in world.transformer.named_modules()
        if re.fullmatch(f".*({once})", name)
    ]
    assert len(modules) == 3 + 2 * CONFIG.num_layers + 1 + 2 * (1 + 2)
    for module in modules:
        module.register_forward_pre_hook(_refuse)
    assert torch.isfinite(drive(world, 3)).all()
    with pytest.raises(AssertionError, match="constant"):
        world.set_prompt("another prompt")


def test_a_reset_may_keep_the_prompt() -> None:
    world = small_world()
    world.reset(1, "a prompt")
    first = drive(world, 2)
    world.reset(1)
    assert torch.equal(drive(world, 2), first)


def _forward(group: SequenceGroup, tokens: int, height: int) -> tuple[Tensor, int]:
    """One forward on a window, and how many collectives it took."""
    model = SmallWeights().transformer(CPU, torch.float32)
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(2, 5, 4, height, 10, generator=generator)
    text = torch.randn(2, tokens, 12, generator=generator)
    control = torch.randn(2, 5, 10, generator=generator)
    timesteps = torch.tensor([[0, 249, 499, 749, 999]])
    collectives, live = 0, group._live

    def counted() -> object:
        """What every collective calls to get at the process group."""
        nonlocal collectives
        collectives += 1
        return live()

    group._live = counted  # type: ignore[method-assign]
    with torch.inference_mode():
        out = model(latents, timesteps, text, control, group).clone()
    return out, collectives


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("tokens", "height"), [(7, 6), (1, 6), (7, 4)])
def test_ranks_equal_one_in_a_forward(size: int, tokens: int, height: int) -> None:
    """7 text tokens divide by neither 2 nor 3; 15 tokens of a latent (height 6) not by 2, 10
    (height 4) not by 3."""
    single, none = _forward(SequenceGroup.single(), tokens, height)
    assert none == 0
    for out, collectives in run_ranks(size, _forward, tokens, height):
        assert float((out - single).abs().max()) <= 1e-5 * float(single.abs().max())
        # Two per transformer block and one to gather the result: control attention communicates
        # nothing.
        assert collectives == 2 * CONFIG.num_layers + 1


def _twelve_steps(group: SequenceGroup, settings: StreamSettings) -> Tensor:
    world = small_world(settings, group=group)
    world.reset(
        3, "a prompt", start=torch.randn(3, 4, 6, 10, generator=torch.Generator().manual_seed(1))
    )
    first = drive(world, 6)
    world.set_prompt("another prompt")
    return torch.cat((first, drive(world, 6, first=6)))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("settings", [STAGE4, TWO_GROUPS], ids=str)
def test_ranks_equal_one_in_a_stream(size: int, settings: StreamSettings) -> None:
    single = _twelve_steps(SequenceGroup.single(), settings)
    streams = run_ranks(size, _twelve_steps, settings)
    for stream in streams:
        assert float((stream - single).abs().max()) <= 1e-5 * float(single.abs().max())
        assert torch.equal(stream, streams[0])
