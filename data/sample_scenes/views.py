"""Views: how picture number n of an instance, or of a distractor, is set up and taken.

Called by make_samples.py; the one place where subject, surroundings, camera, light and lens meet.
Technique: every choice is drawn from a generator named after the label and the number.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from . import indoors, outdoors
from .catalog import FAMILY_OF, KINDS, SETS, Kind, subject
from .facades import facade
from .geometry import Camera, Frame, unit, vec
from .painting import painting
from .pots import fruit
from .render import Lens, Scene, photograph
from .solids import Box, Built, Solid
from .textures import Rng, grass, gravel, pick, plain, rng_for, tiles, wood

SIZES = [(320, 240), (320, 240), (240, 320), (288, 288)]


def render_view(label: str, number: int) -> Image.Image:
    """Picture `number` of an instance in LABELS."""
    family = FAMILY_OF[label]
    return _take(family, family, label, rng_for("view", label, number))


def render_distractor(number: int) -> Image.Image:
    """Picture `number` of something that is pictured once."""
    name = f"distractor_{number}"
    rng = rng_for("view", name)
    family = SETS[number % len(SETS)]
    # Half of them are of a known family's style, so that only their layout tells them apart.
    style = family if number % 2 else name
    return _take(family, style, name, rng)


def _take(family: str, style: str, name: str, rng: Rng) -> Image.Image:
    size = SIZES[int(rng.integers(len(SIZES)))]
    if family == "landscape":
        return _landscape(rng, size)
    if family == "interior":
        return _table(([], 3.0, 2.4), 0.8, rng, size)
    built, kind = subject(family, style, name), KINDS[family]
    if kind.setting == "table":
        return _table(built, kind.around, rng, size)
    if kind.setting == "gallery":
        return _gallery(built, kind.around, rng, size)
    return _outdoors(built, kind, rng, name, size)


def _lens(rng: Rng, focus: float, aperture: float) -> Lens:
    warm = float(rng.normal(0, 0.09))
    return Lens(
        focus,
        aperture,
        stops=float(rng.uniform(-0.8, 0.4)),
        white=(1 + warm, 1.0, 1 - warm),
        vignette=float(rng.uniform(0.1, 0.7)),
        grain=float(rng.choice([0.006, 0.012, 0.02, 0.03])),
        contrast=float(rng.uniform(0.98, 1.22)),
        saturation=float(rng.uniform(0.7, 1.05)),
    )


def _camera(
    rng: Rng,
    size: tuple[int, int],
    extent: tuple[float, float],
    around: float,
    eye_y: tuple[float, float],
    margin: tuple[float, float],
) -> tuple[Camera, float]:
    """A camera that holds the subject (width, height) with some margin, and its distance."""
    width, height = extent
    azimuth = float(rng.uniform(-around, around))
    slope = float(rng.uniform(0.3, 0.55))  # tangent of half the field of view along the long side
    focal = max(size) / (2 * slope)
    seen = width * (abs(float(np.cos(azimuth))) + 0.25 * abs(float(np.sin(azimuth))))
    room = float(rng.uniform(*margin))
    distance = room * max(seen * focal / size[0], height * focal / size[1]) + width * 0.2 * abs(float(np.sin(azimuth)))
    shift = 0.16 * rng.uniform(-1, 1, 2)
    target = vec(shift[0] * width, height * (0.5 + 0.6 * shift[1]), 0)
    low, high = eye_y
    y = low + (high - low) * float(rng.random()) ** 2
    eye = vec(distance * np.sin(azimuth), y, distance * np.cos(azimuth))
    return Camera.look(eye, target, focal, size, roll=float(rng.normal(0, 0.025))), distance


def _between(camera: Camera, distance: float, share: float, offset: float, floor: float = 0.0) -> Frame:
    """A spot on the floor part of the way to the subject, `offset` of the half picture off the axis."""
    ahead = vec(float(camera.axes[2, 0]), 0, float(camera.axes[2, 2]))
    ahead /= np.linalg.norm(ahead)
    reach = distance * share
    side = camera.axes[0] * (offset * reach * camera.width / (2 * camera.focal))
    spot = camera.eye + ahead * reach + side
    return Frame.make(float(spot[0]), floor, float(spot[2]), yaw=float(np.arctan2(-ahead[0], -ahead[2])))


def _outdoors(built: Built, kind: Kind, rng: Rng, name: str, size: tuple[int, int]) -> Image.Image:
    site = rng_for("site", name)
    own, width, height = built
    water = kind.setting == "water"
    extent = (width, height) if kind.setting != "park" else (width * 1.3, height)
    eyes = (1.5, 2.2) if kind.setting in ("street", "park") else (1.6, 7.0)
    margin = (0.62, 1.7) if kind.setting != "park" else (0.62, 1.5)
    camera, distance = _camera(rng, size, extent, kind.around, eyes, margin)
    light, lamps = outdoors.daylight(rng, distance + 25)
    solids: list[Solid] = list(own)
    winter = rng.random() < 0.12
    usual, other = outdoors.pavings(site), outdoors.pavings(rng)
    if water:
        solids.append(outdoors.ground(outdoors.water(int(rng.integers(3)))))
        bank = grass(2) if not winter else outdoors.snow()
        from_ends = width / 1.6 - 4.5
        for s in (-1, 1):
            knoll = Frame.make(s * (from_ends + 60), -1.2)
            solids.append(Box(knoll, vec(-60, 0, -60), vec(60, 2.0, 60), bank))
    else:
        base = usual if rng.random() < 0.6 else other
        solids.append(outdoors.ground(outdoors.snow() if winter else base))
    if kind.setting == "street":
        solids += [*_neighbours(name, width), *_parked(width, rng)]
    toward = unit(vec(float(camera.eye[0]), 0, float(camera.eye[2])))
    around = outdoors.skyline(site, max(width, 30.0) + 12) if site.random() < 0.6 and not water else []
    # What stands on the photographer's side could only be in the way.
    solids += [s for s in around if float(s.frame.at @ toward) < 4]
    solids += outdoors.hills(site, 160) if not around else []
    woods = outdoors.woodland(site, max(width * 0.9, 17.0), 9)
    keep = [s for s in woods if float(s.frame.at[2]) < -2 or abs(float(s.frame.at[0])) > width * 0.9]
    keep = [s for s in keep if float(s.frame.at @ toward) < 4]
    solids += keep if rng.random() < 0.75 and kind.setting != "street" else []
    solids += _passers(camera, distance, rng, water)
    if lamps > 0.3 and kind.setting != "water":
        solids += [s.moved(Frame.make(width * 0.45, 0, 3.5)) for s in outdoors.street_lamp(rng)]
    near = distance * 0.35
    own_ids = {id(s) for s in own}
    clear = [s for s in solids if id(s) in own_ids or not _crowds(s, camera, near)]
    radius = 0.75 * float(np.hypot(width, height)) + 3
    scene = Scene(clear, light, vec(0, height * 0.45, 0), radius, (1.5 * lamps, 1.05 * lamps, 0.5 * lamps))
    lens = _lens(rng, distance, float(rng.choice([0, 0, 0.9])))
    return photograph(scene, camera, lens, rng)


def _dominates(group: list[Solid], camera: Camera, limit: float = 0.2) -> bool:
    """Whether a thing would fill more of the picture than an obstacle should."""
    r0, r1, c0, c1 = camera.windows(np.concatenate([s.corners() for s in group])[None])[0]
    return (r1 - r0) * (c1 - c0) > limit * camera.width * camera.height


def _crowds(solid: Solid, camera: Camera, near: float) -> bool:
    """Whether a piece of scenery would stand in the photographer's face."""
    gap = solid.corners() - camera.eye
    return (
        solid.casts
        and float(np.min(np.hypot(gap[:, 0], gap[:, 2]))) < min(near, 4.0)
        and float(np.ptp(gap[:, 1])) > 0.3
        and (float(np.abs(gap).max()) < 60)
    )


@functools.lru_cache(maxsize=2)
def _neighbours(name: str, width: float) -> list[Solid]:
    """The houses on either side, the pavement, and a post on it."""
    site = rng_for("street", name)
    pave = tiles(2, (0.6, 0.58, 0.55), (0.42, 0.4, 0.38), 3.0, 4)
    solids: list[Solid] = [Box(Frame.make(), vec(-90, 0, -2), vec(90, 0.12, 2.6), pave)]
    for s in (-1, 1):
        made, w, _ = facade(pick(site, ["brick", "palace", "timber"]), site, site, 24.0)
        gap = pick(site, [0.05, 0.05, 2.5])
        at = Frame.make(s * (width / 2 + w / 2 + gap), 0, float(site.uniform(-0.8, 0.3)))
        solids += [x.moved(at) for x in made]
    if site.random() < 0.5:
        at = Frame.make(float(site.uniform(-0.6, 0.6)) * width, 0, 2.2)
        post = outdoors.sign_post if site.random() < 0.5 else outdoors.street_lamp
        solids += [x.moved(at) for x in post(site)]
    return solids


def _parked(width: float, rng: Rng) -> list[Solid]:
    solids: list[Solid] = []
    for _ in range(int(rng.integers(0, 3))):
        at = Frame.make(float(rng.uniform(-width, width)), 0, 4.0, yaw=float(rng.choice([0, np.pi])))
        solids += [x.moved(at) for x in outdoors.car(rng)]
    return solids


def _passers(camera: Camera, distance: float, rng: Rng, water: bool) -> list[Solid]:
    """People about the subject and, in half of the pictures, something between it and the camera."""
    solids: list[Solid] = []
    if not water:
        for _ in range(int(rng.integers(0, 5))):
            spot = _between(camera, distance, float(rng.uniform(0.45, 0.92)), float(rng.uniform(-0.9, 0.9)))
            turned = Frame.make(yaw=float(rng.uniform(0, 6.3))).then(spot)
            walker = [s.moved(turned) for s in outdoors.person(rng)]
            solids += [] if _dominates(walker, camera, 0.1) else walker
    kind = int(rng.integers(8))
    side = float(rng.choice([-1, 1]))
    if kind == 0:
        spot = _between(camera, distance, 0.5, side * float(rng.uniform(0.45, 0.95)))
        solids += [s.moved(spot) for s in outdoors.tree(rng, distance * float(rng.uniform(0.3, 0.55)))]
    elif kind == 1:
        spot = _between(camera, distance, 0.4, side * float(rng.uniform(0.3, 0.8)))
        solids += [s.moved(spot) for s in outdoors.street_lamp(rng)]
    elif kind == 2 and not water:
        spot = _between(camera, distance, 0.5, side * float(rng.uniform(0.2, 0.7)))
        parked = [s.moved(spot) for s in outdoors.car(rng)]
        solids += [] if _dominates(parked, camera, 0.15) else parked
    elif kind == 3:
        spot = _between(camera, distance, 0.33, side * float(rng.uniform(0.2, 0.8)))
        solids += [s.moved(spot) for s in outdoors.bush(rng, float(rng.uniform(0.9, 1.5)))]
    elif kind == 4:
        spot = _between(camera, distance, 0.45, side * float(rng.uniform(0.2, 0.7)))
        solids += [s.moved(spot) for s in outdoors.sign_post(rng)]
    return solids


def _table(built: Built, around: float, rng: Rng, size: tuple[int, int]) -> Image.Image:
    own, width, height = built
    eyes = (height * 0.55, height * 2.2)
    camera, distance = _camera(rng, size, (width * 1.1, height), around, eyes, (0.66, 1.3))
    turned = Frame.make(yaw=float(rng.normal(0, 0.12)))
    solids: list[Solid] = [s.moved(turned) for s in own]
    out = rng.random() < 0.25
    solids += indoors.garden(rng) if out else indoors.room(rng, float(rng.uniform(4, 13)))
    taken = [(0.0, 0.0, width * 0.6)]
    for _ in range(int(rng.integers(2, 7))):
        for _ in range(6):
            x, z = float(rng.uniform(-4, 4)), float(rng.uniform(-3.5, 0.4))
            if all(np.hypot(x - a, z - b) > r + 0.75 for a, b, r in taken):
                taken.append((x, z, 0.75))
                at = Frame.make(x, 0, z, yaw=float(rng.uniform(-0.7, 0.7)))
                group = [s.moved(at) for s in indoors.clutter(rng)]
                solids += [] if _dominates(group, camera) else group
                break
    if rng.random() < 0.5:
        share = 1 - (width * 0.6 + float(rng.uniform(0.6, 1.2))) / distance
        spot = _between(camera, distance, share, float(rng.choice([-1, 1])) * float(rng.uniform(0.25, 0.6)))
        thing = fruit(rng) if rng.random() < 0.5 else indoors.pot(rng)
        group = [s.moved(spot) for s in thing]
        solids += [] if _dominates(group, camera) else group
    light = outdoors.daylight(rng, 4000)[0] if out else indoors.lamplight(rng)
    scene = Scene(solids, light, vec(0, height * 0.4, 0), max(3.4, height * 1.3))
    return photograph(scene, camera, _lens(rng, distance, float(rng.uniform(0.5, 4.5))), rng)


def _gallery(built: Built, around: float, rng: Rng, size: tuple[int, int]) -> Image.Image:
    own, width, height = built
    hang = 1.5 - height / 2
    camera, distance = _camera(rng, size, (width, height), around, (-0.5, 0.9), (0.7, 1.45))
    camera = Camera(camera.eye + vec(0, hang, 0), camera.axes, camera.focal, *size)
    wall = indoors.wallings(rng, 0.25)
    solids: list[Solid] = [s.moved(Frame.make(0, hang, 0.0)) for s in own]
    solids.append(Box(Frame.make(), vec(-20, 0, -0.5), vec(20, 4.2, 0), wall, casts=False))
    floor = (
        wood(1, (0.5, 0.34, 0.2), 1.6) if rng.random() < 0.6 else tiles(1, (0.6, 0.58, 0.55), (0.4, 0.4, 0.4), 2.0, 2)
    )
    solids.append(outdoors.ground(floor, 0, 30))
    white = plain((0.85, 0.84, 0.81))
    solids.append(Box(Frame.make(0, 4.2), vec(-20, 0, 0), vec(20, 1, 20), white, casts=False))
    solids.append(Box(Frame.make(), vec(-20, 0, 0), vec(20, 0.14, 0.03), white))
    for s in (-1, 1):
        if rng.random() < 0.65:
            other, w, h = painting(rng, rng)
            at = Frame.make(s * (width / 2 + w / 2 + float(rng.uniform(0.3, 1.2))), 1.5 - h / 2)
            solids += [x.moved(at) for x in other]
    caption = Frame.make(width / 2 + 0.14, hang + 0.05)
    solids.append(Box(caption, vec(-0.06, 0, 0), vec(0.06, 0.08, 0.01), white))
    if rng.random() < 0.5:
        spot = _between(
            camera,
            distance,
            float(rng.uniform(0.5, 0.75)),
            float(rng.choice([-1, 1])) * float(rng.uniform(0.45, 0.95)),
        )
        solids += [s.moved(spot) for s in outdoors.person(rng)]
    light = indoors.lamplight(rng)
    scene = Scene(solids, light, vec(0, 1.5, 0), 1.6 + width)
    return photograph(scene, camera, _lens(rng, distance, float(rng.uniform(0, 1.0))), rng)


def _landscape(rng: Rng, size: tuple[int, int]) -> Image.Image:
    camera, distance = _camera(rng, size, (26, 11), 1.5, (1.6, 9), (0.8, 1.5))
    light, lamps = outdoors.daylight(rng, 70)
    lake = rng.random() < 0.4
    base = outdoors.water(1) if lake else pick(rng, [grass(4), gravel(5), outdoors.snow(), grass(6, (0.5, 0.45, 0.22))])
    solids: list[Solid] = [outdoors.ground(base), *outdoors.hills(rng, 120)]
    if not lake:
        solids += outdoors.woodland(rng, 14, 14)
    else:
        shore = Frame.make(0, -0.5, -75)
        solids.append(Box(shore, vec(-150, 0, -60), vec(150, 1.3, 60), grass(4), casts=False))
        for _ in range(12):
            at = Frame.make(float(rng.uniform(-45, 45)), 0.8, float(rng.uniform(-40, -18)))
            solids += [s.moved(at) for s in outdoors.tree(rng, float(rng.uniform(5, 11)))]
    clear = [s for s in solids if not _crowds(s, camera, 8)]
    scene = Scene(clear, light, vec(0, 3, -4), 24, (1.5 * lamps, lamps, 0.5 * lamps))
    return photograph(scene, camera, _lens(rng, distance, 0.0), rng)
