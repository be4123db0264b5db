"""The photograph: casts a scene's rays, lights what they meet and passes the light through a lens.

Used by make_samples.py with the scenes of views.py.
Technique: Lambert and Blinn-Phong under a shadow-mapped sun, sky light through a dozen low shadow maps
(true ambient occlusion), haze, a circle of confusion by depth, film curve, vignette and sensor noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from .geometry import NEAR, Array, Camera, dot, unit, vec
from .solids import MISS, Solid
from .textures import GLOW, SPEC, Rgb, noise

Numbers = npt.NDArray[np.int32]
SUN_MAP, SKY_MAP, SKY_COUNT, SUN_TAPS = 448, 96, 9, 6


@dataclass(frozen=True)
class Light:
    """A sun (or lamp, or window) and a dome; colours are linear radiance."""

    sun: Array  # direction towards it
    sun_rgb: Rgb
    zenith: Rgb
    horizon: Rgb
    ground: Rgb = (0.25, 0.23, 0.2)
    softness: float = 0.01  # penumbra, as a share of the focus radius
    clouds: float = 0.0
    haze: float = 0.0
    lobe: float = 40.0  # how tight the sun's image is in a mirror
    seed: int = 0

    def radiance(self, d: Array, sharp: bool = False) -> Array:
        y = d[:, 1:2]
        up = np.clip(y, 0, 1)
        sky = np.array(self.horizon, np.float32) * (1 - up**0.55) + np.array(self.zenith, np.float32) * up**0.55
        if sharp and self.clouds > 0:
            reach = 24 / (np.maximum(d[:, 1], 0.03) + 0.06)
            cloud = noise(self.seed, 256, 1.75)
            u, v = d[:, 0] * reach, d[:, 2] * reach
            u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
            fu, fv = u - u0, v - v0
            value = cloud[u0 % 256, v0 % 256] * (1 - fu) * (1 - fv) + cloud[(u0 + 1) % 256, v0 % 256] * fu * (1 - fv)
            value = value + cloud[u0 % 256, (v0 + 1) % 256] * (1 - fu) * fv
            value = value + cloud[(u0 + 1) % 256, (v0 + 1) % 256] * fu * fv
            cover = np.clip((value - 1.2 + 2.4 * self.clouds) * 0.8, 0, 1)[:, None] * np.clip(up * 8, 0, 1)
            lit = np.array(self.horizon, np.float32) * 0.75 + np.array(self.sun_rgb, np.float32) * 0.13
            sky = sky * (1 - cover) + lit * (1.1 - 0.35 * cover) * cover
        near = np.clip(dot(d, self.sun), 0, 1)[:, None]
        glow = near**self.lobe * 0.5 + near**4 * 0.06
        sky = sky + np.array(self.sun_rgb, np.float32) * glow
        floor = np.clip(-y * 12 + 0.5, 0, 1)
        return np.asarray(sky * (1 - floor) + np.array(self.ground, np.float32) * floor, np.float32)


@dataclass(frozen=True)
class Lens:
    """Everything between the light and the file."""

    focus: float
    aperture: float = 0.0  # blur in pixels at infinity
    stops: float = 0.0
    white: Rgb = (1.0, 1.0, 1.0)
    vignette: float = 0.25
    grain: float = 0.012
    contrast: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True)
class Scene:
    solids: Sequence[Solid]
    light: Light
    centre: Array  # of the region whose shadows matter
    radius: float
    glow_rgb: Rgb = (1.0, 0.72, 0.4)

    def casters(self) -> list[Solid]:
        """The solids whose shadows may fall near the centre."""
        reach = self.radius * 2.5
        return [s for s in self.solids if s.casts and float(np.abs(s.frame.at - self.centre).max()) < reach]


def cast(camera: Camera, solids: Sequence[Solid]) -> tuple[Array, Numbers]:
    """Distance to, and number of, the nearest solid for every pixel."""
    depth = np.full((camera.height, camera.width), MISS, np.float32)
    who = np.full((camera.height, camera.width), -1, np.int32)
    windows = camera.windows(np.stack([s.corners() for s in solids]))
    for i, (solid, (r0, r1, c0, c1)) in enumerate(zip(solids, windows, strict=True)):
        if r0 >= r1 or c0 >= c1:
            continue
        rows, cols = slice(r0, r1), slice(c0, c1)
        t = solid.hit(*camera.rays(rows, cols)).reshape(rows.stop - rows.start, -1)
        nearer = t < depth[rows, cols]
        depth[rows, cols][nearer] = t[nearer]
        who[rows, cols][nearer] = i
    return depth, who


def photograph(scene: Scene, camera: Camera, lens: Lens, rng: np.random.Generator, scale: float = 1.4) -> Image.Image:
    """Render at `scale` times the camera's size and develop at its size."""
    wide, high = int(camera.width * scale), int(camera.height * scale)
    fine = Camera(camera.eye, camera.axes, camera.focal * wide / camera.width, wide, high)
    depth, who = cast(fine, scene.solids)
    _, d = fine.rays(slice(0, high), slice(0, wide))
    t = depth.ravel()
    rgb = scene.light.radiance(d, sharp=True)
    seen = np.flatnonzero(np.isfinite(t))
    p = fine.eye + d[seen] * t[seen, None]
    look, normal, gloss = _surfaces(scene.solids, who.ravel()[seen], p, t[seen] / fine.focal)
    normal = np.where(dot(normal, d[seen])[:, None] > 0.3, -normal, normal)  # thin cards face the viewer
    lit = _shade(scene, p, normal, d[seen], look, gloss, rng)
    veil = np.exp(-t[seen] * scene.light.haze)[:, None]
    far = np.array(scene.light.horizon, np.float32) * 0.95
    rgb[seen] = lit * veil + far * (1 - veil)
    image = _shrink(rgb.reshape(high, wide, 3), camera.width, camera.height)
    near = np.where(np.isfinite(depth), depth, 1e4)
    coarse = np.asarray(Image.fromarray(near).resize((camera.width, camera.height), Image.Resampling.NEAREST))
    return _develop(_defocus(image, coarse, lens), lens, rng)


def _surfaces(solids: Sequence[Solid], who: Numbers, p: Array, foot: Array) -> tuple[Array, Array, Array]:
    look = np.zeros((len(p), 7), np.float32)
    normal = np.zeros((len(p), 3), np.float32)
    gloss = np.zeros(len(p), np.float32)
    order = np.argsort(who, kind="stable")
    names, starts = np.unique(who[order], return_index=True)
    for name, here in zip(names, np.split(order, starts[1:]), strict=True):
        frame = solids[name].frame
        face = solids[name].surface((p[here] - frame.at) @ frame.turn, foot[here])
        look[here], normal[here], gloss[here] = face.look, face.normal @ frame.turn.T, face.gloss
    return look, normal, gloss


def _shadow_map(scene: Scene, direction: Array, size: int) -> tuple[Camera, Array]:
    eye = scene.centre + direction * scene.radius * 4
    camera = Camera.look(eye, scene.centre, size / (2 * scene.radius), (size, size), parallel=True)
    return camera, cast(camera, scene.casters())[0]


def _unshaded(
    shadow: tuple[Camera, Array], p: Array, n: Array, spread: float, taps: int, rng: np.random.Generator
) -> Array:
    """The share of jittered taps around each point that the map's light reaches."""
    camera, depth = shadow
    texel = 1 / camera.focal
    col, row, far = camera.project(p + n * (1.6 * texel))
    total = np.zeros(len(p), np.float32)
    wobble = max(spread / texel, 0.5)
    jitter = rng.uniform(0, 2 * np.pi, 4096).astype(np.float32)[np.arange(len(p)) % 4093]
    for i in range(taps):
        turn, reach = jitter + 2.4 * i, wobble * np.sqrt((i + 0.5) / taps)
        c = (col + np.cos(turn) * reach).astype(np.int32)
        r = (row + np.sin(turn) * reach).astype(np.int32)
        inside = (c >= 0) & (c < camera.width) & (r >= 0) & (r < camera.height)
        first = depth.ravel()[np.where(inside, r * camera.width + c, 0)]
        total += ~inside | (far < first + texel + reach * texel * 0.7)
    return total / np.float32(taps)


def _sky_directions() -> Array:
    i = np.arange(SKY_COUNT) + 0.5
    y, turn = np.sqrt(i / SKY_COUNT) * 0.97 + 0.03, i * np.pi * (3 - np.sqrt(5))
    y = y[::-1] * 0.9 + 0.05
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(turn), y, r * np.sin(turn)], 1).astype(np.float32)


def _shade(scene: Scene, p: Array, n: Array, d: Array, look: Array, gloss: Array, rng: np.random.Generator) -> Array:
    light = scene.light
    sun_rgb = np.array(light.sun_rgb, np.float32)
    facing = np.clip(n @ light.sun, 0, None)
    sunny = facing.copy()
    if max(light.sun_rgb) > 0:
        spread = light.softness * scene.radius
        sunny *= _unshaded(_shadow_map(scene, light.sun, SUN_MAP), p, n, spread, SUN_TAPS, rng)
    sky, open_sky, weight = np.zeros_like(p), np.zeros(len(p), np.float32), np.zeros(len(p), np.float32)
    directions = _sky_directions()
    # The sun itself is left out of the dome: its light is the shadowed term above.
    dome = Light(light.sun, (0, 0, 0), light.zenith, light.horizon).radiance(directions)
    for way, colour in zip(directions, dome, strict=True):
        tilt = np.clip(n @ way, 0, None)
        free = tilt * _unshaded(_shadow_map(scene, way, SKY_MAP), p, n, scene.radius * 0.02, 3, rng)
        sky += free[:, None] * colour
        open_sky, weight = open_sky + free, weight + tilt
    sky *= np.float32(2 / SKY_COUNT)
    opening = (open_sky / np.maximum(weight, 1e-3))[:, None]
    low = np.clip(0.5 - 0.5 * n[:, 1:2], 0, 1)
    bounce = np.array(light.ground, np.float32) * (np.array(dome.mean(axis=0)) + 0.25 * sun_rgb * light.sun[1])
    ambient = sky + bounce * low * (0.3 + 0.7 * opening) + 0.04 * dome.mean(axis=0)
    albedo = look[:, :3]
    out = albedo * (sun_rgb * sunny[:, None] + ambient)
    spec = look[:, SPEC : SPEC + 1]
    cosine = np.clip(-dot(n, d), 0, 1)[:, None]
    fresnel = spec + (1 - spec) * np.clip(spec * 12, 0, 1) * (1 - cosine) ** 5 * 0.8
    mirror = d - 2 * dot(n, d)[:, None] * n
    out = out + light.radiance(unit(mirror)) * fresnel * (0.25 + 0.75 * opening)
    half = np.clip(dot(n, unit(light.sun - d)), 0, 1)
    lobe = (gloss + 8) / 8 * half**gloss * sunny
    out = out + sun_rgb * (lobe[:, None] * spec)
    return np.asarray(out + np.array(scene.glow_rgb, np.float32) * look[:, GLOW : GLOW + 1], np.float32)


def _shrink(image: Array, width: int, height: int) -> Array:
    bright = np.minimum(image, 6.0)  # one glint must not ring over its neighbours
    planes = [Image.fromarray(np.ascontiguousarray(bright[..., i])) for i in range(3)]
    small = [np.asarray(plane.resize((width, height), Image.Resampling.BOX)) for plane in planes]
    return np.stack(small, axis=2).astype(np.float32)


def _disc_blur(image: Array, radius: float) -> Array:
    pad = int(radius) + 2
    full = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    rows, cols = full.shape[:2]
    y, x = (
        np.minimum(np.arange(rows), rows - np.arange(rows)),
        np.minimum(np.arange(cols), cols - np.arange(cols)),
    )
    disc = np.clip(radius + 0.5 - np.hypot(y[:, None], x[None, :]), 0, 1)
    turn = np.fft.rfft2(disc / disc.sum())[..., None]
    out = np.fft.irfft2(np.fft.rfft2(full, axes=(0, 1)) * turn, s=(rows, cols), axes=(0, 1))
    return out[pad:-pad, pad:-pad].astype(np.float32)


def _defocus(image: Array, depth: Array, lens: Lens) -> Array:
    if lens.aperture < 0.4:
        return image
    blur = lens.aperture * np.abs(1 - lens.focus / np.maximum(depth, NEAR))
    blur = np.minimum(blur, 2.2 * lens.aperture)
    steps = np.array([0.0, 0.35, 0.7, 1.0]) * max(float(np.percentile(blur, 99)), 0.5)
    out = image
    for low, high in pairwise(steps):
        # Blurred with weights, so that what is sharp does not bleed into what is not.
        share = np.clip((blur - low) / (high - low), 0, 1)[..., None].astype(np.float32)
        soft = _disc_blur(np.concatenate([image * (share + 0.02), share + 0.02], 2), float(high))
        spread = np.maximum(share, np.clip(soft[..., 3:] - 0.25, 0, 1) * (depth < lens.focus * 0.8)[..., None])
        out = out * (1 - spread) + soft[..., :3] / np.maximum(soft[..., 3:], 1e-3) * spread
    return np.asarray(out, np.float32)


def _develop(image: Array, lens: Lens, rng: np.random.Generator) -> Image.Image:
    rows, cols = image.shape[:2]
    image = image * np.array(lens.white, np.float32)
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    edge = ((x / cols - 0.5) ** 2 + (y / rows - 0.5) ** 2) * 2
    image = image * (1 - lens.vignette * edge)[..., None]
    luma = image @ vec(0.25, 0.65, 0.1)
    middle = np.exp(np.mean(np.log(luma + 1e-3))) * 0.6 + np.mean(luma) * 0.4
    image = np.maximum(image * (0.2 * 2.0**lens.stops / middle), 0)
    bloom = _disc_blur(np.maximum(image - 1.0, 0), min(rows, cols) * 0.03)
    image = image + 0.12 * bloom
    grey = (image @ vec(0.25, 0.65, 0.1))[..., None]
    image = np.maximum(grey + (image - grey) * lens.saturation, 0)
    shot = rng.standard_normal(image.shape) * 0.6 + rng.standard_normal((rows, cols, 1)) * 0.8
    image = np.maximum(image + lens.grain * shot * np.sqrt(image * 0.4 + 0.005), 0)
    curve = image * (2.51 * image + 0.03) / (image * (2.43 * image + 0.59) + 0.14)  # ACES fit by Narkowicz
    out = np.clip(curve, 0, 1) ** (1 / 2.2)
    out = np.clip(0.5 + (out - 0.5) * lens.contrast, 0, 1)
    return Image.fromarray((out * 255 + 0.5).astype(np.uint8))
