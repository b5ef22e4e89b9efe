"""The dashboard asks only for figures that exist."""

import asyncio
import json
import re
import sys

from prometheus_client import CollectorRegistry, generate_latest

from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.web.metrics import Counters, all_worlds, registry
from pipeline.worlds import Worlds
from tests.places import ROOT


def names_in(registry_: CollectorRegistry) -> set[str]:
    """Every sample family of a /metrics answer."""
    text = generate_latest(registry_).decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


async def _show() -> Show:
    program = await Program.launch([sys.executable, "-m", "tests.road"])
    show = Show(program, seed=1, prompt="a road")
    await program.close()
    return show


def test_every_figure_of_the_dashboard_is_served() -> None:
    worlds = Worlds(asyncio.run(_show()))
    own = registry(worlds.own.show)
    Counters(own)
    served = all_worlds(worlds, lambda: {"first": own})
    families = names_in(served)
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"matrix_\w+", text)}
    assert len(asked) > 10
    for name in asked:
        assert name in families or name.removesuffix("_bucket") in families, name
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
