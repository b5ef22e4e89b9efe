"""Generate an 8 s drive under given controls: ``python generation_example.py``.

Uses ./models/stage2 and ./models/stage3 if they exist, else the small world that ships with the
project."""

from pathlib import Path

from the_matrix import the_matrix

generator = the_matrix()
print(f"stage 2: {generator.generation.path}")
print(f"stage 3: {generator.streaming.path}")

folder = Path("example_videos")
folder.mkdir(exist_ok=True)
paths = generator.generate(
    prompt="A red car drives on a desert road in daylight.",
    length=8,
    control_signal="D*9,DL*8,D*4,DR*12",
    output_folder=folder,
    overwrite=True,
)
print("\n".join(map(str, paths)))
