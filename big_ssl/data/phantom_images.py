"""Pictures of synthetic lesions, drawn with NumPy. Not medical images.

What belongs to a case is drawn once: its structure, outline, size and hue. What belongs to an image
is drawn again each time and outweighs it in the pixels: position, distance, angle, tilt, skin,
hairs, light, noise. Colour, size and darkness are drawn without regard to the class, and every
structure has mean 0 and deviation 1 over the lesion, so that only shape tells classes apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

SUPERSAMPLING = 2

Plane = Float[np.ndarray, 'h w']
Picture = Float[np.ndarray, 'h w 3']
Random = np.random.Generator


def render(label: str, seed: int, case: int, image: int, size: int) -> UInt8[np.ndarray, 's s 3']:
    """One image of a case; `image` numbers all images of the data set."""
    lesion = _draw_lesion(label, np.random.default_rng([seed, 1, case]))
    rng = np.random.default_rng([seed, 2, image])
    axis = (np.arange(size * SUPERSAMPLING) + 0.5) / (size * SUPERSAMPLING) * 2 - 1
    x, y = np.meshgrid(axis, axis)
    picture = _skin(rng, x, y)
    picture = _paint_lesion(picture, lesion, rng, *_viewpoint(rng, x, y))
    picture = _distractors(picture, rng, x, y)
    picture = _illumination(picture, rng, x, y)
    shape = (size, SUPERSAMPLING, size, SUPERSAMPLING, 3)
    picture = picture.reshape(shape).mean(axis=(1, 3))
    picture += rng.normal(0, rng.uniform(0.01, 0.04), picture.shape)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Lesion:
    """What all images of a case share. Lengths are in units of the lesion's radius."""

    structure: Callable[[Plane, Plane], Plane]
    outline: Callable[[Plane], Plane]
    colour: Float[np.ndarray, ' 3']
    size: float
    elongation: float


def other_camera(pixels: UInt8[np.ndarray, 's s 3']) -> UInt8[np.ndarray, 's s 3']:
    """The same image from a camera with a warmer white, a steeper curve and a slight blur."""
    light = pixels.astype(np.float64) / 255
    light = ndimage.gaussian_filter(light, (0.6, 0.6, 0))
    light = light**1.25 * np.array([1.08, 0.97, 0.82])
    return np.rint(light.clip(0, 1) * 255).astype(np.uint8)


def _draw_lesion(label: str, rng: Random) -> Lesion:
    structure, outline = CLASSES[label]
    turn = rng.uniform(0, 2 * np.pi)
    hue = 0.5 + 0.5 * np.cos(turn + np.array([0, 2, 4]) * np.pi / 3)
    return Lesion(
        structure=structure(rng),
        outline=outline(rng),
        colour=rng.uniform(0.4, 0.6) * (np.array([0.95, 0.75, 0.7]) + 0.1 * hue),
        size=rng.uniform(0.85, 1.15),
        elongation=rng.uniform(1.0, 1.3),
    )


# Structures. Each draws a case's parameters and returns a function of the lesion's own x and y.


def _globules(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Round dots of several sizes."""
    grid = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), axis=-1).reshape(-1, 2)
    centres = grid * 0.52 + rng.uniform(-0.12, 0.12, grid.shape)
    radii = rng.uniform(0.1, 0.19, len(grid))

    def structure(x: Plane, y: Plane) -> Plane:
        dots = np.zeros_like(x)
        for (cx, cy), radius in zip(centres, radii, strict=True):
            dots = np.maximum(dots, np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / radius**2) ** 2)))
        return dots

    return structure


def _mesh(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Two crossing families of thin lines."""
    frequency, phase = rng.uniform(1.7, 2.1, 2) * np.pi, rng.uniform(0, np.pi, 2)

    def structure(x: Plane, y: Plane) -> Plane:
        across = np.abs(np.sin(frequency[0] * x + phase[0]))
        along = np.abs(np.sin(frequency[1] * y + phase[1]))
        return np.exp(-6 * np.minimum(across, along))

    return structure


def _rings(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Circles about the centre."""
    frequency, phase = rng.uniform(2.0, 2.6) * 2 * np.pi, rng.uniform(0, 2 * np.pi)
    return lambda x, y: np.cos(frequency * np.hypot(x, y) + phase)


def _spokes(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Rays from the centre."""
    count, phase = rng.integers(6, 10), rng.uniform(0, 2 * np.pi)
    return lambda x, y: np.cos(count * np.arctan2(y, x) + phase) * np.minimum(1, 3 * np.hypot(x, y))


def _stripes(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Parallel, slightly wavy bands."""
    frequency, phase = rng.uniform(1.7, 2.3) * 2 * np.pi, rng.uniform(0, 2 * np.pi, 2)
    wave = rng.uniform(0.05, 0.12)
    return lambda x, y: np.cos(frequency * (x + wave * np.sin(4 * y + phase[1])) + phase[0])


def _halves(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Two halves of different darkness with a bent front between them."""
    bend, offset = rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2)
    return lambda x, y: np.tanh(5 * (x + bend * y**2 - offset))


def _spiral(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Arms that wind about the centre, one way or the other."""
    arms, turns = rng.integers(2, 4), rng.uniform(1.1, 1.5) * 2 * np.pi
    handedness, phase = rng.choice([-1, 1]), rng.uniform(0, 2 * np.pi)
    return lambda x, y: np.cos(
        arms * handedness * np.arctan2(y, x) + turns * np.hypot(x, y) + phase
    )


def _patches(rng: Random) -> Callable[[Plane, Plane], Plane]:
    """Irregular islands: plane waves of all directions and one length."""
    angle, phase = rng.uniform(0, 2 * np.pi, 12), rng.uniform(0, 2 * np.pi, 12)
    frequency = rng.uniform(1.2, 1.5) * 2 * np.pi

    def structure(x: Plane, y: Plane) -> Plane:
        waves = [
            np.cos(frequency * (np.cos(a) * x + np.sin(a) * y) + p)
            for a, p in zip(angle, phase, strict=True)
        ]
        return np.tanh(np.sum(waves, axis=0))

    return structure


# Outlines. The radius as a function of the angle; the area does not depend on the class.


def _smooth(rng: Random) -> Callable[[Plane], Plane]:
    two, three = rng.uniform(0, 2 * np.pi, 2)
    return lambda angle: 1 + 0.06 * np.cos(2 * angle + two) + 0.05 * np.cos(3 * angle + three)


def _scalloped(rng: Random) -> Callable[[Plane], Plane]:
    bumps, phase = rng.integers(6, 9), rng.uniform(0, np.pi)
    return lambda angle: 0.87 + 0.2 * np.abs(np.sin(bumps / 2 * angle + phase))


def _spiky(rng: Random) -> Callable[[Plane], Plane]:
    spikes, phase = rng.integers(7, 11), rng.uniform(0, 2 * np.pi)
    return lambda angle: 0.87 + 0.42 * (0.5 + 0.5 * np.cos(spikes * angle + phase)) ** 2


CLASSES = {
    'globular': (_globules, _smooth),
    'reticular': (_mesh, _smooth),
    'annular': (_rings, _smooth),
    'stellate': (_spokes, _spiky),
    'striated': (_stripes, _scalloped),
    'bipartite': (_halves, _scalloped),
    'spiral': (_spiral, _spiky),
    'mottled': (_patches, _scalloped),
}


# What is drawn anew for every image.


def _viewpoint(rng: Random, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Coordinates of the picture in the lesion's frame: position, distance, angle, tilt."""
    depth = 1 + rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.2, 0.2) * y
    x = (x - rng.uniform(-0.3, 0.3)) / depth
    y = (y - rng.uniform(-0.3, 0.3)) / depth
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.78)
    squeeze = rng.uniform(1, 1.25)
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    return (cos * x + sin * y) * squeeze, (cos * y - sin * x) / squeeze


def _skin(rng: Random, x: Plane, y: Plane) -> Picture:
    """A tone between light and dark, with folds and blotches of random direction and width."""
    light, dark = np.array([0.95, 0.78, 0.68]), np.array([0.5, 0.35, 0.27])
    tone = light + rng.uniform() * (dark - light)
    relief = np.zeros_like(x)
    for frequency in (2, 4, 8, 14):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        wave = rng.uniform(0.6, 1.4) * frequency * (np.cos(angle) * x + np.sin(angle) * y)
        relief += rng.uniform(0, 0.08) * np.cos(wave + 0.6 * np.sin(3 * x * y + phase) + phase)
    return tone * (1 + relief[..., None])


def _paint_lesion(picture: Picture, lesion: Lesion, rng: Random, x: Plane, y: Plane) -> Picture:
    x = x / lesion.size * lesion.elongation**0.5
    y = y / lesion.size / lesion.elongation**0.5
    depth = lesion.outline(np.arctan2(y, x)) - np.hypot(x, y)
    inside = 1 / (1 + np.exp(-rng.uniform(18, 30) * depth))
    structure = lesion.structure(x, y)
    structure = structure - np.average(structure, weights=inside)
    structure /= np.sqrt(np.average(structure**2, weights=inside))
    contrast = -rng.uniform(0.28, 0.45)
    colour = lesion.colour * (1 + contrast * np.clip(structure, -2, 2))[..., None]
    cover = (rng.uniform(0.75, 0.95) * inside)[..., None]
    return picture * (1 - cover) + colour * cover


def _distractors(picture: Picture, rng: Random, x: Plane, y: Plane) -> Picture:
    """Hairs, and sometimes the ticks of a ruler along a side."""
    for _ in range(rng.integers(0, 4)):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.9, 0.9)
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        distance = np.abs(across - offset - rng.uniform(-0.5, 0.5) * along**2)
        hair = np.clip(1.5 - distance / rng.uniform(0.015, 0.03), 0, 1)[..., None]
        picture = picture * (1 - hair * rng.uniform(0.4, 0.9))
    if rng.uniform() < 0.2:
        along, across = (x, y) if rng.uniform() < 0.5 else (y, x)
        side, period = rng.choice([-1, 1]), rng.uniform(0.15, 0.3)
        ticks = (np.mod(along, period) < 0.25 * period) & (side * across > 0.85)
        picture = np.where(ticks[..., None], rng.uniform(0, 1), picture)
    return picture


def _illumination(picture: Picture, rng: Random, x: Plane, y: Plane) -> Picture:
    """Exposure, colour cast, a gradient across the picture, and vignetting."""
    gain = rng.uniform(0.7, 1.25) * np.exp(rng.normal(0, 0.2, 3))
    slope = 1 + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.3, 0.3) * y
    vignette = 1 - rng.uniform(0, 0.35) * (x**2 + y**2)
    return np.clip(picture * gain * (slope * vignette)[..., None], 0, 1)
