"""Generate an 8 s drive under given controls: ``python generation_example.py``.

Uses ./models/stage2 and ./models/stage3 if they exist, else the small world that ships with the
project."""

import sys
from pathlib import Path

import matrix_live.imports  # noqa: F401 - finds the packages below, wherever this file lies

# isort: split
from configs.errors import UserError, one_line_errors
from configs.interrupts import importing

with importing():  # it takes seconds; Ctrl-C meanwhile is no traceback
    from the_matrix import the_matrix

FOLDER = Path("example_videos")


@one_line_errors
def main() -> int:
    try:
        FOLDER.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {FOLDER} cannot be made in {Path.cwd()} ({error.strerror}): go to a folder "
            "that you may write to and start it from there"
        ) from None
    generator = the_matrix()
    print(f"stage 2: {generator.generation.path}")
    print(f"stage 3: {generator.streaming.path}")
    paths = generator.generate(
        prompt="A red car drives on a desert road in daylight.",
        length=8,
        control_signal="D*9,DL*8,D*4,DR*12",
        output_folder=FOLDER,
        overwrite=True,
    )
    print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
