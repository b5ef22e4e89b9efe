"""Where things lie that tests read."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SHIPPED: Final = ROOT / "models" / "tiny"  # the embedded weights
GOLDEN: Final = ROOT / "tests" / "golden"  # numbers of the published system
