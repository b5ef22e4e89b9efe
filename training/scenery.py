"""What the driving world looks like: palettes, panoramas, ground textures and the car, all drawn
from equations.

Everything here is drawn once and cached; camera.py only samples it, which is why a frame
costs 2 ms. Colours are float32 RGB in [0, 1]; the car is premultiplied RGBA.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from training.view import BASE_FOCAL, BASE_HORIZON

Array = npt.NDArray[np.float32]

# Columns around the full circle: about one per pixel at the edge of the view.
PANORAMA_COLUMNS = 1024
GROUND_TEXELS, TEXELS_PER_METRE = 1024, 4  # a period of 256 m

PAINT = {
    "red": (0.84, 0.10, 0.10),
    "blue": (0.12, 0.28, 0.86),
    "white": (0.93, 0.93, 0.93),
    "yellow": (0.97, 0.80, 0.10),
}


def rgb(*values: float) -> Array:
    """A colour."""
    return np.array(values, np.float32)


@dataclass(frozen=True)
class Palette:
    """Colours of one biome at one time of day, light already applied, but for the ridges' own light
    in the panorama."""

    ground: tuple[Array, Array]
    road: Array
    marking: Array
    ridge: Array
    zenith: Array
    horizon: Array
    light: Array
    haze: Array


_GROUND = {
    "desert": ((0.90, 0.72, 0.44), (0.70, 0.47, 0.25), (0.42, 0.36, 0.33), (0.66, 0.36, 0.22)),
    "meadow": ((0.46, 0.70, 0.25), (0.25, 0.50, 0.15), (0.45, 0.41, 0.37), (0.30, 0.44, 0.48)),
    "snow": ((0.95, 0.97, 1.00), (0.70, 0.78, 0.90), (0.42, 0.45, 0.50), (0.56, 0.64, 0.78)),
    "city": ((0.56, 0.58, 0.52), (0.42, 0.47, 0.38), (0.22, 0.22, 0.25), (0.42, 0.44, 0.54)),
    "forest": ((0.34, 0.44, 0.18), (0.20, 0.28, 0.10), (0.42, 0.34, 0.24), (0.18, 0.33, 0.26)),
}
_SKY = {
    "day": ((0.22, 0.50, 0.92), (0.80, 0.90, 0.98)),
    "sunset": ((0.26, 0.20, 0.48), (1.00, 0.58, 0.28)),
    "night": ((0.02, 0.03, 0.11), (0.14, 0.18, 0.36)),
}
_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (0.95, 0.70, 0.58), "night": (0.27, 0.33, 0.54)}


@cache
def palette(biome: str, time: str) -> Palette:
    """The colours of a biome at a time of day."""
    first, second, road, ridge = (rgb(*c) for c in _GROUND[biome])
    light = rgb(*_LIGHT[time])
    zenith, horizon = (rgb(*c) for c in _SKY[time])
    return Palette(
        ground=(first * light, second * light),
        road=road * light,
        marking=rgb(0.97, 0.90, 0.62) * (light * 0.7 + 0.3),
        ridge=ridge * light,
        zenith=zenith,
        horizon=horizon,
        light=light,
        haze=ridge * light * 0.35 + horizon * 0.65,
    )


def smooth_noise(
    rng: np.random.Generator, rows: int, columns: int, row_cells: int, column_cells: int
) -> Array:
    """Periodic value noise in [0, 1], smoothstep between random values on a row_cells x
    column_cells lattice."""
    lattice = rng.random((row_cells, column_cells), dtype=np.float32)

    def axis(n: int, cells: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
        position = np.arange(n) * (cells / n)
        low = position.astype(np.int64)
        t = (position - low).astype(np.float32)
        return low, (low + 1) % cells, t * t * (3 - 2 * t)

    low, high, t = axis(rows, row_cells)
    mixed = lattice[low] * (1 - t)[:, None] + lattice[high] * t[:, None]
    low, high, t = axis(columns, column_cells)
    return np.asarray(mixed[:, low] * (1 - t) + mixed[:, high] * t, np.float32)


@cache
def ground_textures() -> tuple[Array, Array]:
    """(broad, fine) noise, zero mean, flattened [GROUND_TEXELS ** 2]: patches of 20 m and tufts of
    3 m."""
    rng = np.random.default_rng(7)
    n = GROUND_TEXELS
    broad = 0.65 * smooth_noise(rng, n, n, 12, 12) + 0.35 * smooth_noise(rng, n, n, 28, 28)
    fine = smooth_noise(rng, n, n, 84, 84)
    return (broad - broad.mean()).ravel(), (fine - fine.mean()).ravel()


@cache
def grain() -> Array:
    """Grass and gravel of 0.7 m, seen near the car in larger pictures: as `ground_textures`."""
    noise = smooth_noise(np.random.default_rng(8), GROUND_TEXELS, GROUND_TEXELS, 360, 360)
    return np.asarray((noise - noise.mean()).ravel(), np.float32)


# --- panorama: everything at infinity
def _ridge_line(
    rng: np.random.Generator, columns: int, low: int, high: int, roughness: float
) -> npt.NDArray[np.float64]:
    angle = np.arange(columns) * (2 * np.pi / columns)
    line = np.zeros(columns)
    for k in range(low, high):
        line += rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) / k**roughness
    return (line - line.min()) / (line.max() - line.min())


def _paint(image: Array, colour: Array, alpha: npt.NDArray[np.floating]) -> None:
    image += (colour - image) * alpha[..., None]


@lru_cache(maxsize=64)
def panorama(biome: str, time: str, seed: int, scale: int = 1) -> Array:
    """Sky, sun or moon, clouds or stars, ridges or skyline: [rows, columns, 3], BASE_HORIZON and
    PANORAMA_COLUMNS times the scale; column = heading angle. Sizes below are pixels of scale 1."""
    rng = np.random.default_rng(seed)
    p = palette(biome, time)
    rows, columns = BASE_HORIZON * scale, PANORAMA_COLUMNS * scale
    y = _middles(rows, scale)[:, None] - 0.5
    height = BASE_HORIZON - y - 0.5  # above the horizon
    t = ((y + 0.5) / BASE_HORIZON)[..., None] ** 1.4
    image = np.broadcast_to(p.zenith * (1 - t) + p.horizon * t, (rows, columns, 3)).astype(
        np.float32
    )
    _sky_lights(image, rng, time, y, scale)
    _clouds(image, rng, time, y / np.float32(BASE_HORIZON))

    tall = {"desert": 0.60, "meadow": 0.60, "snow": 1.0, "city": 0.45, "forest": 0.70}[biome]
    line = ((0.25 + 0.75 * _ridge_line(rng, columns, 5, 30, 0.9)) * tall * 24).astype(np.float32)
    slope = np.clip((np.roll(line, -4 * scale) - np.roll(line, 4 * scale)) / 6, -1, 1)
    alpha = np.clip((line[None] - height) * scale + 0.5, 0, 1)
    face = p.ridge * 0.62 + p.horizon * 0.38
    shaded = face[None] * (1 + 0.28 * slope[:, None])  # one side of every mountain in the light
    image += (shaded[None] - image) * alpha[..., None]
    if biome == "snow":
        cap = np.clip((height - 0.62 * line[None]) / 2, 0, 1) * alpha * (line[None] > 9)
        _paint(image, rgb(0.97, 0.98, 1.0) * (p.light * 0.9 + 0.1), cap * 0.85)
    if biome == "city":
        _skyline(image, rng, time, p, height, scale)
    else:
        line = ((0.15 + 0.85 * _ridge_line(rng, columns, 9, 44, 0.6)) * 7.5).astype(np.float32)
        near = np.clip((line[None] - height) * scale + 0.5, 0, 1)
        _paint(image, p.ridge * 0.78 + p.horizon * 0.06, near)
    return np.clip(image, 0, 1)


def _middles(count: int, scale: int) -> Array:
    """Middles of so many pixels, in pixels of scale 1."""
    return (np.arange(count, dtype=np.float32) + 0.5) / np.float32(scale)


def _sky_lights(image: Array, rng: np.random.Generator, time: str, y: Array, scale: int) -> None:
    """Sun, low sun or moon (a disc with a glow), and stars at night."""
    columns = PANORAMA_COLUMNS
    x = _middles(image.shape[1], scale)[None] - 0.5
    # screen pixels per panorama column, near the middle of the view
    pixels = 2 * np.pi / columns * BASE_FOCAL
    level, radius, glow = {
        "day": (9.0, 4.6, 0.16),
        "sunset": (19.0, 6.5, 0.45),
        "night": (10.0, 5.0, 0.12),
    }[time]
    colour = {
        "day": rgb(1, 0.98, 0.86),
        "sunset": rgb(1, 0.86, 0.45),
        "night": rgb(0.88, 0.92, 1),
    }[time]
    if time == "night":
        for _ in range(24):
            cx, cy, size = rng.uniform(0, columns), rng.uniform(0, 28), rng.uniform(1.2, 1.7)
            near = np.abs(x[0] - cx) < 6
            d2 = ((x[:, near] - cx) * pixels) ** 2 + (y - cy) ** 2
            image[:, near] += (np.exp(-d2 / (2 * size**2)) * rng.uniform(0.5, 1.0))[
                ..., None
            ] * rgb(0.9, 0.93, 1.0)
    first = rng.uniform(0, columns)
    # one sun; by night a moon and, opposite, a small one
    for offset in (0.0, 0.5) if time == "night" else (0.0,):
        centre = (first + columns * offset) % columns
        size = radius * (1 if offset == 0 else 0.6)
        dx = (x - centre + columns / 2) % columns - columns / 2
        r2 = ((dx * pixels) ** 2 + (y - level) ** 2) / size**2
        image += (np.exp(-r2 / 10) * glow)[..., None] * colour
        _paint(image, colour, np.clip((1 - np.sqrt(r2)) * size / 1.5 * scale + 0.5, 0, 1))


def _clouds(image: Array, rng: np.random.Generator, time: str, down: Array) -> None:
    """down: 0 at the top to 1 at the horizon, of each row."""
    rows, columns, _ = image.shape
    noise = 0.7 * smooth_noise(rng, rows, columns, 3, 14) + 0.3 * smooth_noise(
        rng, rows, columns, 7, 34
    )
    window = np.clip(1 - np.abs(down - 0.32) / 0.34, 0, 1)
    alpha = np.clip((noise - 0.50) * 4.5, 0, 1) * window
    colour, strength = {
        "day": (rgb(1, 1, 1), 0.85),
        "sunset": (rgb(1.0, 0.52, 0.42), 0.75),
        "night": (rgb(0.16, 0.19, 0.34), 0.6),
    }[time]
    _paint(image, colour, alpha * strength)


def _skyline(
    image: Array, rng: np.random.Generator, time: str, p: Palette, height: Array, scale: int
) -> None:
    """Distant towers, at night with lit windows: few and large ones, the most that tiny latents
    carry without blur; in a larger picture more and smaller ones."""
    left = 0
    while left < PANORAMA_COLUMNS:
        width = int(rng.integers(14, 28))
        top = 4 + 19 * rng.random() ** 1.6
        part = image[:, left * scale : (left + width) * scale]
        inside = np.clip((top - height) * scale + 0.5, 0, 1) * np.ones(
            (1, part.shape[1]), np.float32
        )
        tone = 0.55 + 0.4 * rng.random()
        _paint(part, p.ridge * tone + p.horizon * 0.12, inside)
        x = np.floor(_middles(part.shape[1], 1))[None] / scale
        floor, window = 8 / scale, 9 / scale
        lit = (
            (height < top - 2)
            & (height > 2)
            & (height % floor < floor / 2)
            & (x % window >= window / 3)
            & (x > 1)
            & (x < width - 2)
        )
        lamp = rgb(1.0, 0.80, 0.42) if time != "day" else p.ridge * 0.6
        _paint(part, lamp, lit * np.float32({"day": 0.25, "sunset": 0.35, "night": 0.6}[time]))
        left += width + int(rng.integers(0, 9))


# --- the car
CAR_ROWS, CAR_COLUMNS = 30, 50  # pixels of scale 1
CAR_HALF_WIDTH, CAR_HEIGHT = 17.0, 21.0
LEANS = 12  # steps from straight to full lock
_SUPER = 4  # supersampling


@dataclass(frozen=True)
class _Sheet:
    """RGBA to paint on, supersampled; where texels lie in the car, upright (u, v), leaned (a, b)."""

    image: Array
    u: npt.NDArray[np.float64]
    v: npt.NDArray[np.float64]
    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]

    @staticmethod
    def blank(scale: int, steer: float) -> _Sheet:
        """For a car of scale times 30 x 50 pixels."""
        rows, columns = CAR_ROWS * scale, CAR_COLUMNS * scale
        finer = _SUPER * scale
        u = ((np.arange(columns * _SUPER) + 0.5) / finer - CAR_COLUMNS / 2)[None] / CAR_HALF_WIDTH
        v = (CAR_ROWS - 5 - (np.arange(rows * _SUPER) + 0.5) / finer)[:, None] / CAR_HEIGHT
        # The body leans out of the curve and shows its flank.
        image = np.zeros((rows * _SUPER, columns * _SUPER, 4), np.float32)
        return _Sheet(image, u=u, v=v, a=u + steer * 0.40 * v, b=v - steer * 0.07 * u)

    def put(
        self, mask: npt.NDArray[np.bool_], rgb: npt.NDArray[np.floating], alpha: float = 1.0
    ) -> None:
        self.image[mask, :3] += (rgb - self.image[mask, :3]) * alpha
        self.image[mask, 3] += (1 - self.image[mask, 3]) * alpha

    def box(
        self, half: float, low: float, high: float, centre: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        return (np.abs(self.a - centre) < half) & (self.b > low) & (self.b < high)

    def reduced(self) -> Array:
        """Premultiplied RGBA at its own size."""
        image = self.image.copy()
        image[..., :3] *= image[..., 3:]
        rows, columns = image.shape[0] // _SUPER, image.shape[1] // _SUPER
        return np.clip(image.reshape(rows, _SUPER, columns, _SUPER, 4).mean((1, 3)), 0, 1)


@cache
def car(colour: str, time: str, lean: int, gear: str, scale: int = 1) -> Array:
    """The car from behind, premultiplied RGBA [30, 50, 4] times the scale; lean -LEANS (right) .. LEANS (left);
    gear D, B or N."""
    steer = lean / LEANS
    sheet = _Sheet.blank(scale, steer)
    light = palette("city", time).light
    sheet.put(
        (sheet.u / 1.25) ** 2 + ((sheet.v + 0.02) / 0.17) ** 2 < 1, rgb(0.02, 0.02, 0.03), 0.55
    )
    for wheel in (-0.74, 0.74):
        sheet.put(sheet.box(0.21, -0.06, 0.30, wheel), rgb(0.05, 0.05, 0.06))
    _body(sheet, steer, rgb(*PAINT[colour]) * (light * 0.75 + 0.25), light * 0.7 + 0.3)
    _lamps(sheet, gear, light * 0.7 + 0.3)
    return sheet.reduced()


def _body(sheet: _Sheet, steer: float, paint: Array, lamp: Array) -> None:
    """Flank, boot, cabin with its window, bumper and number plate."""
    a, b, put, box = sheet.a, sheet.b, sheet.put, sheet.box
    flank = np.sign(steer) * (a - np.sign(steer) * 1.0)
    put((flank > 0) & (flank < abs(steer) * 0.16) & (b > 0.12) & (b < 0.52), paint * 0.6)
    put(box(1.0, 0.10, 0.56), paint)
    put(box(1.0, 0.46, 0.56), np.minimum(paint * 1.15 + 0.03, 1))
    cabin = 0.84 - 0.36 * np.clip((b - 0.5) / 0.5, 0, 1)
    shift = a - steer * 0.10 * np.clip(b - 0.5, 0, 1) * 2
    put((np.abs(shift) < cabin) & (b > 0.55) & (b < 1.0), paint * 0.82)
    put((np.abs(shift) < cabin - 0.13) & (b > 0.58) & (b < 0.90), rgb(0.13, 0.16, 0.22) * lamp)
    put(box(0.96, 0.10, 0.17), paint * 0.55)
    put(box(0.28, 0.18, 0.30), rgb(0.80, 0.80, 0.74) * lamp)


def _lamps(sheet: _Sheet, gear: str, lamp: Array) -> None:
    """Tail lights tell the gear: dark while coasting, bright and with white ones in reverse."""
    red = {"D": (0.62, 0.04, 0.05), "N": (0.34, 0.03, 0.04), "B": (1.0, 0.12, 0.08)}[gear]
    for x in (-0.78, 0.78):
        sheet.put(sheet.box(0.17, 0.32, 0.47, x), rgb(*red) * (lamp if gear != "B" else 1))
        if gear == "B":
            sheet.put(sheet.box(0.11, 0.34, 0.45, x * 0.62), rgb(1, 1, 0.95))
