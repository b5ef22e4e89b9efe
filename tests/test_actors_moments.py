"""Moments as files: what a live session keeps and what a world in Python saves are the same."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.dit import DitWorker
from actors.moments import changes, every, load, save
from actors.records import LatentChunk, StepOrder
from actors.source import Moment, Take
from actors.text import TextWorker
from actors.timeline import Commit, Prompt, Route
from actors.vae import VaeWorker
from configs.choice import WeightChoice
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.live_world import LiveWorld
from models.parts import Parts
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

ENGINE = "torch-fp32"
LABELS = ["D", "DL", "DR", "B", "D"]


@pytest.fixture(scope="module", params=[False, True], ids=["tiny", "full"])
def weights(request, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("w") / "stage4", full_vae=request.param)
    return WeightChoice(folder, engine=ENGINE)


@pytest.fixture(scope="module")
def parts(weights):
    return Parts(Checkpoint.open(weights), torch.device("cpu"))


checkpoint_of = Checkpoint.open


def driven(weights) -> tuple[Moment, Commit]:
    """Five latents by the workers themselves, in this process."""
    threads = torch.get_num_threads()
    text, dit, vae = TextWorker(weights, 0, 1), DitWorker(weights, 0, 1), VaeWorker(weights, 0, 1)
    text.join("file:///unused")
    dit.join("file:///unused")
    vae.join("file:///unused")
    embedding, _ = text.encode(PROMPTS[2])
    dit.reset(0, 7, PROMPTS[2], embedding)
    vae.reset(0)
    history: list[LatentChunk] = []
    for index, label in enumerate(LABELS):
        chunk, reply = dit.step(0, StepOrder(index, (label,)))
        assert chunk is not None
        vae.decode(0, chunk)
        history.append(chunk)
    torch.set_num_threads(threads)
    prompt = Prompt(PROMPTS[2], 0, embedding)
    commit = Commit(5, 7, prompt, reply.state, tuple(history), 20)
    return Moment(5, 7, PROMPTS[2], Route(commit)), commit


def test_a_live_moment_opens_in_python_and_goes_on_alike(weights, parts, tmp_path):
    moment, commit = driven(weights)
    path = tmp_path / "kept.world"
    take = Take(7, tuple(LABELS), (PROMPTS[2],) * 5)
    save(commit, moment, take, path, checkpoint_of(weights), ENGINE)
    opened, whole = LiveWorld.open(parts, path), LiveWorld.begin(parts, PROMPTS[2], 7)
    for label in LABELS:
        whole.step(label)
    assert opened.labels == whole.labels and opened.prompt == whole.prompt
    for label in ("DL", "D", "B"):
        assert (opened.step(label) == whole.step(label)).all()
    again, led = load(path, checkpoint_of(weights))
    assert (again.latent, again.seed, again.prompt) == (5, 7, PROMPTS[2])
    assert (led.labels, led.prompts, led.engine) == (take.labels, take.prompts, ENGINE)


def test_a_world_saved_in_python_is_a_moment_to_go_on_from(weights, parts, tmp_path):
    world = LiveWorld.begin(parts, PROMPTS[0], 9)
    for label in LABELS:
        world.step(label)
    world.set_prompt(PROMPTS[1])
    world.step("DL")
    moment, take = load(world.save(tmp_path / "mine.world"), parts.checkpoint)
    assert take.prompts == (PROMPTS[0],) * 5 + (PROMPTS[1],) and moment.prompt == PROMPTS[1]
    assert isinstance(moment.state, Route)
    commit = moment.state.commit
    assert commit.state is not None
    threads = torch.get_num_threads()
    vae = VaeWorker(weights, 0, 1)
    vae.join("file:///unused")
    vae.restore(3, 6, *commit.history)
    dit = DitWorker(weights, 0, 1)
    dit.join("file:///unused")
    dit.restore(3, commit.state)
    chunk, _ = dit.step(3, StepOrder(6, ("DR",)))
    assert chunk is not None
    torch.set_num_threads(1)
    frames = vae.decode(3, chunk).frames
    assert (frames == world.branch().step("DR")).all()
    torch.set_num_threads(threads)


def test_prompts_one_a_latent_and_where_they_change_are_the_same() -> None:
    prompts = ("a", "a", "b", "b", "b", "a")
    assert changes(prompts) == ((0, "a"), (2, "b"), (5, "a"))
    assert every(changes(prompts), 6) == prompts
    assert every(((0, "a"), (0, "b")), 2) == ("b", "b")
    assert np.all(every(((0, "a"), (2, "b")), 2) == ("a", "a"))


def test_what_no_worker_could_go_on_from_is_refused_before_any_tries(weights, parts, tmp_path):
    world = LiveWorld.begin(parts, PROMPTS[0], 9)
    for label in LABELS:
        world.step(label)
    good = world.snapshot()
    state = good.state
    wide = replace(state, latents=torch.zeros(*state.latents.shape[:3], 2 * state.latents.shape[3]))
    broken = {
        "size": replace(good, state=wide, latents=(), memory={}, frames=good.frames[:0]),
        "NaN": replace(good, state=replace(state, latents=state.latents * float("nan"))),
        "guidance": replace(
            good, guidance=3.0, state=replace(state, text=state.text.repeat(2, 1, 1))
        ),
        "missing": replace(good, latents=()),
    }
    for reason, snapshot in broken.items():
        path = tmp_path / f"{reason}.world"
        snapshot.save(path, parts.checkpoint, ENGINE)
        with pytest.raises(UserError, match=reason):
            load(path, checkpoint_of(weights))


def test_of_two_that_save_under_one_name_one_is_told(weights, tmp_path):
    moment, commit = driven(weights)
    take, path = Take(7, tuple(LABELS), (PROMPTS[2],) * 5), tmp_path / "same.world"

    def attempt(_: int) -> bool:
        try:
            save(commit, moment, take, path, checkpoint_of(weights), ENGINE)
        except UserError as error:
            assert "exists" in str(error)
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["same.world"]
