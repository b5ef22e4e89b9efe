"""Going back in a world that dreams in this process: what follows equals the undisturbed stream,
byte for byte, and what was shown is in the log."""

import asyncio

import numpy as np
import pytest

from configs.errors import UserError
from pipeline.stage.control_log import read_control_log
from tests.dream import DreamSource, again, dreamed
from tests.tiny_checkpoint import PROMPTS
from tests.watched import WatchedShow

KINDS = {"late labels, tiny decoder": (1, False), "full decoder": (2, True)}


@pytest.fixture(scope="module", params=list(KINDS))
def parts(request, tmp_path_factory):
    return dreamed(tmp_path_factory.mktemp("weights"), *KINDS[request.param])


def play(parts, drive, **settings):
    """Run a show beside ``drive(show)``; the show and what it returns."""

    async def whole():
        show = WatchedShow(DreamSource(parts), seed=7, prompt=PROMPTS[0], **settings)
        running = asyncio.create_task(show.run())
        try:
            result = await drive(show)
        finally:
            show.stop()
            await running
        return show, result

    return asyncio.run(whole())


def test_what_follows_equals_the_undisturbed_world(parts, tmp_path):
    """Back through a change of labels and one of prompts, to a moment between two that are kept;
    into a file and out of it; back to the world that this took the place of."""

    async def drive(show):
        show.tape.log(tmp_path / "log")
        show.hold("DL")
        await show.until(3)
        show.set_prompt(PROMPTS[1])
        await show.until(9)
        show.hold("DR")
        show.rewind(6)
        await show.until(8)
        saved = await show.past.save(show.past.at(7, show.latent))
        show.rewind(2)
        await show.until(4)
        show.open(await show.past.load(saved))
        await show.until(9)
        show.open(show.past.left())
        await show.until(6)
        return show.take()

    show, take = play(parts, drive, recordings=tmp_path / "kept")
    shown = np.stack([frame.image for frame in show.seen])
    takes = read_control_log(tmp_path / "log", show.info)
    assert [each.first for each in takes] == [0, 6, 2, 7, len(takes[2].labels) - 1]
    assert takes[-1].labels[: len(take.labels)] == take.labels
    assert PROMPTS[1] in takes[1].prompts and set(takes[2].prompts) == {PROMPTS[0]}
    dreamed_again = np.concatenate(
        [again(parts, each)[4 * each.first : 4 * len(each.labels)] for each in takes]
    )
    assert (dreamed_again[: len(shown)] == shown).all()
    assert len(dreamed_again) - len(shown) < 4, "the last latent's frames were still to come"


def test_what_cannot_be_is_refused_and_changes_nothing(parts, tmp_path):
    async def drive(show):
        await show.until(2)
        (tmp_path / "no.world").write_bytes(b"nothing")
        for attempt in (
            lambda: show.rewind(-1),
            lambda: show.rewind(show.latent + 1),
            lambda: show.rewind("2"),
            lambda: show.rewind(True),
            lambda: show.open(show.past.left()),
        ):
            with pytest.raises(UserError):
                attempt()
        with pytest.raises(UserError):
            await show.past.load(tmp_path / "no.world")
        with pytest.raises(UserError, match="nothing is made before latent 0"):
            await show.past.save(show.past.at(0, show.latent))
        epoch = show.epoch
        await show.until(4)
        return epoch

    show, epoch = play(parts, drive)
    assert show.epoch == epoch and not show.past._left
