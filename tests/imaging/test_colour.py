"""Colour profiles: photos come out in sRGB, and describers and indexes from before are what they were."""

from __future__ import annotations

import io
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from photos import make_photo
from PIL import Image, ImageCms

from pipeline.config import load_config
from pipeline.describe import describer_for_card, load_describer
from pipeline.describe.presets import PRESETS
from pipeline.errors import ImageError, RelookError
from pipeline.imaging import decode_image
from pipeline.imaging.colour_spaces import D65, coded_profile, matrix_profile

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROFILES = {
    "P3": matrix_profile(P3),
    "Adobe RGB": matrix_profile(ADOBE, D65, 1 / 2.19922),
    "ProPhoto": matrix_profile(PROPHOTO, (0.3457, 0.3585), 1 / 1.8),
    "linear": matrix_profile(gamma=1.0),
}


def photo_pixels(seed: int = 3) -> np.ndarray:
    path = io.BytesIO()
    make_into(path, seed)
    return np.asarray(Image.open(path).convert("RGB"))


def make_into(stream: io.BytesIO, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 230, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((320, 240), Image.Resampling.BICUBIC)) + rng.normal(0, 6, (240, 320, 3))
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(stream, "PNG")


def in_space(pixels: np.ndarray, profile: bytes, mode: str = "RGB") -> Image.Image:
    """The picture that looks the same with a profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    source = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(Image.fromarray(pixels), source, target, renderingIntent=1, outputMode=mode)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def describer():
    return load_describer("efficientnet_lite0", image={"size": 224}, locals={"count": 0}, globals={"scales": [1.0]})


def similarity(describer, first: np.ndarray, second: np.ndarray) -> float:
    one, two = (describer.describe([describer.prepare(pixels)])[0].vector for pixels in (first, second))
    return float(one @ two)


@pytest.mark.parametrize("name", PROFILES)
def test_a_photo_with_a_profile_is_described_like_its_twin(name: str, describer) -> None:
    twin, profile = photo_pixels(), PROFILES[name]
    data = saved(in_space(twin, profile), icc_profile=profile)
    found = decode_image(data, name="x", icc="srgb")
    assert similarity(describer, found, twin) >= 0.995
    assert similarity(describer, found, twin) >= similarity(describer, decode_image(data, name="x"), twin)
    assert abs(found.astype(int) - twin).mean() <= 3


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 97, "subsampling": 0}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_every_container_hands_its_profile_on(kind: str, options: dict) -> None:
    twin = photo_pixels()
    data = saved(in_space(twin, PROFILES["P3"]), kind, icc_profile=PROFILES["P3"], **options)
    assert abs(decode_image(data, name="x", icc="srgb").astype(int) - twin).mean() <= 3


def test_ignore_takes_values_as_they_are() -> None:
    image = in_space(photo_pixels(), PROFILES["P3"])
    data = saved(image, icc_profile=PROFILES["P3"])
    np.testing.assert_array_equal(decode_image(data, name="x"), np.asarray(image))
    np.testing.assert_array_equal(decode_image(data, name="x", icc="ignore"), np.asarray(image))


def grey_profile(gamma: float) -> bytes:
    """A grey display profile made by hand."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    table = struct.pack(">I", 2) + b"wtpt" + struct.pack(">II", 156, 20) + b"kTRC" + struct.pack(">II", 176, 14)
    header = struct.pack(">I4sI4s4s4s", 192, bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + white + curve


def cmyk_profile() -> bytes:
    """A printer's profile of an ideal device made by hand: a table of 5^4 colours to Lab."""
    steps = np.linspace(0, 1, 5)
    c, m, y, k = np.meshgrid(steps, steps, steps, steps, indexing="ij")
    rgb = np.stack([(1 - ink) * (1 - k) for ink in (c, m, y)], axis=-1)
    colours = Image.fromarray((rgb.reshape(1, -1, 3) * 255).round().astype(np.uint8))
    lab_profile, source = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    lab = ImageCms.profileToProfile(colours, source, lab_profile, renderingIntent=1, outputMode="LAB")
    values = np.frombuffer(lab.tobytes(), np.uint8).reshape(-1, 3) ^ np.array([0, 128, 128], np.uint8)
    line = bytes(range(256))
    identity = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
    a2b = b"mft1" + bytes(4) + bytes([4, 3, 5, 0]) + identity + line * 4 + values.tobytes() + line * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    first = 128 + 4 + 2 * 12
    table = struct.pack(">I", 2) + b"wtpt" + struct.pack(">II", first, 20)
    table += b"A2B0" + struct.pack(">II", first + 20, len(a2b))
    size = first + 20 + len(a2b)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + white + a2b


def test_grey_photos_with_a_profile(describer) -> None:
    grey = np.asarray(Image.fromarray(photo_pixels()).convert("L"))
    twin = np.repeat(grey[..., None], 3, axis=2)
    light = grey / 255
    linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    stored = Image.fromarray((linear ** (1 / 1.2) * 255).round().astype(np.uint8))
    data = saved(stored, icc_profile=grey_profile(1.2))
    found = decode_image(data, name="x", icc="srgb")
    assert abs(found.astype(int) - twin).max() <= 4
    assert similarity(describer, found, twin) >= 0.995
    with_alpha = stored.copy()
    with_alpha.putalpha(255)
    data = saved(with_alpha, icc_profile=grey_profile(1.2))
    assert abs(decode_image(data, name="x", icc="srgb").astype(int) - twin).max() <= 4
    as_rgb = saved(Image.fromarray(grey), icc_profile=PROFILES["linear"])  # an RGB profile on a grey picture
    assert decode_image(as_rgb, name="x", icc="srgb").mean() > grey.mean() + 20


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_photos_with_a_profile(kind: str, describer) -> None:
    twin = photo_pixels()
    scaled = twin / 255
    black = 0.5 * (1 - scaled.max(axis=2, keepdims=True))
    inks = np.clip(1 - scaled / (1 - black), 0, 1)
    stored = np.concatenate([inks, black], axis=2)
    image = Image.fromarray((stored * 255).round().astype(np.uint8), "CMYK")
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    found = decode_image(saved(image, kind, icc_profile=cmyk_profile(), **options), name="x", icc="srgb")
    assert similarity(describer, found, twin) >= 0.995


def test_a_profile_of_srgb_changes_nothing() -> None:
    pixels = photo_pixels()
    profiles = (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), matrix_profile(gamma=1 / 2.2))
    for profile in profiles:
        data = saved(Image.fromarray(pixels), icc_profile=profile)
        np.testing.assert_array_equal(decode_image(data, name="x", icc="srgb"), pixels)


def test_a_broken_or_foreign_profile_costs_nothing() -> None:
    pixels = photo_pixels()
    rng = np.random.default_rng(0)
    broken = [b"", b"no profile", PROFILES["P3"][:200], rng.bytes(500), cmyk_profile(), grey_profile(2.2)]
    for _ in range(200):
        damaged = bytearray(PROFILES["P3"])
        for at in rng.integers(0, len(damaged), 4):
            damaged[at] = rng.integers(256)
        broken.append(bytes(damaged))
    for profile in broken:
        found = decode_image(saved(Image.fromarray(pixels[:8, :8]), icc_profile=profile), name="x", icc="srgb")
        assert found.shape == (8, 8, 3)
    for profile in broken[:6]:
        found = decode_image(saved(Image.fromarray(pixels), icc_profile=profile), name="x", icc="srgb")
        np.testing.assert_array_equal(found, pixels)


def with_chunks(pixels: np.ndarray, **chunks: bytes) -> bytes:
    data, front = saved(Image.fromarray(pixels)), b""
    for kind, content in chunks.items():
        name = kind.encode()
        front += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data[:33] + front + data[33:]


def test_png_states_its_colours_without_a_profile() -> None:
    twin = photo_pixels()
    in_p3 = np.asarray(in_space(twin, PROFILES["P3"]))
    cicp = with_chunks(in_p3, cICP=bytes([12, 13, 0, 1]))
    assert abs(decode_image(cicp, name="x", icc="srgb").astype(int) - twin).mean() <= 3
    chromaticities = (*D65, *P3[0], *P3[1], *P3[2])
    packed = struct.pack(">8I", *(round(value * 100_000) for value in chromaticities))
    older = with_chunks(in_p3, gAMA=struct.pack(">I", 45455), cHRM=packed)
    assert abs(decode_image(older, name="x", icc="srgb").astype(int) - twin).mean() <= 3
    plain = with_chunks(twin, gAMA=struct.pack(">I", 45455))  # what most programs write for sRGB
    np.testing.assert_array_equal(decode_image(plain, name="x", icc="srgb"), twin)
    hdr = with_chunks(twin, cICP=bytes([9, 16, 0, 1]))  # PQ is taken as it is
    np.testing.assert_array_equal(decode_image(hdr, name="x", icc="srgb"), twin)
    assert coded_profile(1, 13) is None


def test_transforms_are_shared_by_threads() -> None:
    twin = photo_pixels()
    data = saved(in_space(twin, PROFILES["ProPhoto"]), icc_profile=PROFILES["ProPhoto"])
    wanted = decode_image(data, name="x", icc="srgb")
    equal: list[bool] = []

    def work() -> None:
        equal.extend(np.array_equal(decode_image(data, name="x", icc="srgb"), wanted) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 80


# --- the model card ---------------------------------------------------------------------------------------------------


def test_the_card_names_the_rule_only_where_it_is_applied(describer) -> None:
    assert describer.icc == "srgb"
    assert describer.card.settings["image"]["icc"] == "srgb"
    plain = load_describer("efficientnet_lite0", image={"size": 224, "icc": "ignore"}, locals={"count": 0})
    assert plain.icc == "ignore"
    assert "icc" not in plain.card.settings["image"]
    assert all(preset["image"]["icc"] == "ignore" for preset in PRESETS.values())


def test_a_card_from_before_is_made_again_exactly() -> None:
    """Its settings as relook wrote them before colour profiles were applied, and its fingerprint then."""
    made = load_describer("efficientnet_lite0", image={"icc": "ignore"}, locals={"count": 0})
    keys = ["size", "resize", "max_side", "multiple", "crop", "interpolation", "scaling", "antialias", "channels"]
    assert list(made.card.settings["image"]) == [*keys, "mean", "std"]
    assert made.card.fingerprint == "e81629db790182ad"  # as printed by the version before
    assert made.card.image.icc == "ignore"
    again = describer_for_card(made.card, {})
    assert again.icc == "ignore"
    assert again.card.to_json() == made.card.to_json()


def test_an_index_from_before_keeps_its_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later extract, and queries, of the same configuration; asking for another rule is an error that names it."""
    from pipeline.stages.extract import extract
    from pipeline.stages.search import search
    from pipeline.stores import Index

    photos = tmp_path / "photos"
    for number in range(3):
        path = make_photo(photos / f"{number}.png", (80, 60), seed=number)
        image = in_space(np.asarray(Image.open(path).convert("RGB")), PROFILES["linear"])
        image.save(path, icc_profile=PROFILES["linear"])
    plain = [
        f"index={tmp_path / 'index'}",
        "describe.locals.count=0",
        "describe.globals.scales=[1.0]",
        "rerank.chain=[]",
    ]
    extract(load_config(overrides=[*plain, "describe.image.icc=ignore"]), str(photos))
    before = Index(tmp_path / "index").card
    assert "icc" not in before.settings["image"]
    make_photo(photos / "new.png", (80, 60), seed=9)
    config = load_config(overrides=plain)
    assert extract(config, str(photos)).added == 1
    assert Index(tmp_path / "index").card.fingerprint == before.fingerprint
    first = search(config, [str(photos / "1.png")]).to_json()["queries"][0]["results"][0]
    assert first["id"] == "1.png"
    assert first["score"] == pytest.approx(1, abs=1e-5)
    other = load_config(overrides=[*plain, "describe.image.icc=srgb"])
    with pytest.raises(RelookError, match=r"describe\.image\.icc: 'srgb'.*'ignore'"):
        search(other, [str(photos / "1.png")])


# --- formats that an extra brings -------------------------------------------------------------------------------------


def test_jpeg_xl_is_read_where_its_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_jxl")
    twin = photo_pixels()
    data = saved(Image.fromarray(twin), "JXL", lossless=True)
    np.testing.assert_array_equal(decode_image(data, name="x"), twin)
    with pytest.raises(ImageError, match="320 x 240 pixels, more than the 1,000 allowed"):
        decode_image(data, name="x", max_pixels=1000)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError, match=r'JPEG XL is read where .* \(pip install "relook\[jxl\]"\)'):
        decode_image(data, name="x")
