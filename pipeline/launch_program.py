"""Another program's world, with our pacer, recorder and page."""

from collections.abc import Sequence
from typing import Final

from configs.schema import RunConfig
from pipeline.broadcast import Broadcast
from pipeline.console import Console
from pipeline.run_files import RunFiles
from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.worlds import Worlds

NAMELESS: Final = "a world without a prompt"


async def play_program(config: RunConfig, command: Sequence[str], console: Console) -> int:
    """Play the world of the program ``command``; the exit code. Raises UserError when it cannot be
    started or speaks something else."""
    files = RunFiles.checked(config)
    program = await Program.launch(command)
    try:
        prompt = config.prompt or next(iter(program.info.presets), NAMELESS)
        show = Show(
            program,
            seed=config.seed,
            prompt=prompt,
            duration=config.duration,
            anew=not config.headless,
        )
        broadcast = Broadcast(Worlds(show, rest=config.rests_after), config, files, console)
    except BaseException:
        await program.close()
        raise
    console.say("model", f"program {program.info.name}, {program.info.width}x{program.info.height}")
    code = await broadcast.run()
    broadcast.name_files()
    return code
