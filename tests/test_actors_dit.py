"""One DiT rank, driven directly."""

import gc

import pytest
import torch

from actors.dit import DitWorker
from actors.records import StepOrder
from actors.text import TextWorker
from configs.choice import WeightChoice
from tests.tiny_checkpoint import PROMPTS, write_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return WeightChoice(write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4"))


@pytest.fixture(scope="module")
def embeddings(weights):
    text = TextWorker(weights, 0, 1)
    text.join("")
    return {prompt: text.encode(prompt) for prompt in PROMPTS}


@pytest.fixture
def begun(weights, embeddings):
    threads = torch.get_num_threads()
    worker = DitWorker(weights, 0, 1)
    worker.join("file:///unused")
    worker.reset(0, 3, PROMPTS[0], embeddings[PROMPTS[0]][0])
    torch.set_num_threads(threads)
    return worker


def step(worker, index, label="D", world=0):
    return worker.step(world, StepOrder(index, (label,), 8))


def test_a_reply_says_what_made_the_latents(begun):
    chunk, reply = step(begun, 0, "DL")
    assert chunk.index == 0 and len(chunk.latents) == 1
    assert reply.labels == ("DL",) and reply.cursor == 8
    assert reply.started < reply.ended and reply.state.index == 1


def test_a_state_goes_on_elsewhere_bit_for_bit(weights, begun, embeddings):
    step(begun, 0, "DL")
    begun.set_prompt(0, embeddings[PROMPTS[2]][0])
    state = step(begun, 1, "DR")[1].state
    expected = [step(begun, index, "B")[0].latents for index in (2, 3, 4)]
    other = DitWorker(weights, 0, 1)
    other.join("file:///unused")
    other.restore(5, state)
    assert all(
        (step(other, index, "B", 5)[0].latents == expected[index - 2]).all() for index in (2, 3, 4)
    )


def test_worlds_of_one_worker_know_nothing_of_each_other(begun, embeddings):
    alone = [step(begun, index, "DL")[0].latents for index in range(4)]
    begun.reset(1, 3, PROMPTS[0], embeddings[PROMPTS[0]][0])
    begun.reset(2, 9, PROMPTS[2], embeddings[PROMPTS[2]][0])
    for index in range(4):
        step(begun, index, "B", world=2)
        assert (step(begun, index, "DL", world=1)[0].latents == alone[index]).all()
    begun.forget(2)
    with pytest.raises(KeyError):
        step(begun, 4, world=2)
    step(begun, 4, world=1)


def test_a_step_out_of_turn_is_refused(begun):
    step(begun, 0)
    for wrong in (0, 2):
        with pytest.raises(
            RuntimeError, match=f"step {wrong} was asked of a world that stands at 1"
        ):
            step(begun, wrong)


def test_a_prompt_that_is_cut_comes_with_a_notice(weights, embeddings):
    assert "only the first 15 are used" in embeddings[PROMPTS[0]][1]
    text = TextWorker(weights, 0, 1)
    text.join("")
    assert text.encode("a car")[1] == ""


def test_the_collector_leaves_what_was_loaded_alone(weights):
    gc.unfreeze()
    threads = torch.get_num_threads()
    DitWorker(weights, 0, 1).join("file:///unused")
    torch.set_num_threads(threads)
    assert gc.get_freeze_count() > 10_000 > gc.get_count()[0]
    gc.unfreeze()
