"""ICC profiles made from numbers: primaries, white point and transfer curve.

For files that state their colours without a profile (PNG's cICP, gAMA and cHRM; HEIF's nclx). Sources: ICC.1:2022;
ITU-T H.273, tables 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Chromaticity = tuple[float, float]

D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

# The code of the primaries: red, green, blue, white.
_PRIMARIES: dict[int, tuple[tuple[Chromaticity, Chromaticity, Chromaticity], Chromaticity]] = {
    1: (SRGB, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), (0.310, 0.316)),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65),
}
# The code of the transfer curve: a power, None for sRGB's curve. Video curves are shown as sRGB's by browsers.
_TRANSFERS: dict[int, float | None] = {
    **dict.fromkeys((1, 6, 13, 14, 15)),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# sRGB's curve as parametric curve of type 3: g, a, b, c, d.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def coded_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile of H.273's codes; None for sRGB, for unknown codes and for HDR curves (PQ, HLG)."""
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        return None
    power = _TRANSFERS[transfer]
    if primaries == 1 and power is None:
        return None
    return matrix_profile(*_PRIMARIES[primaries], gamma=1 / power if power else None)


def matrix_profile(
    primaries: Sequence[Chromaticity] = SRGB, white: Chromaticity = D65, gamma: float | None = None
) -> bytes | None:
    """An RGB profile.

    Args:
        primaries: x and y of red, green and blue.
        white: x and y of the white point.
        gamma: exponent of encoding, such as 1 / 2.2; None, and what is within 5 % of 1 / 2.2: sRGB's curve.

    Returns:
        None where the numbers define no colour space.
    """
    if gamma is not None and not 0.1 <= gamma <= 10:
        return None
    power = None if gamma is None or abs(gamma * 2.2 - 1) < 0.05 else round(1 / gamma, 4)
    try:
        return _matrix_profile(tuple(primaries), white, power)
    except (ZeroDivisionError, np.linalg.LinAlgError, struct.error, OverflowError, ValueError):
        return None


@cache
def _matrix_profile(primaries: tuple[Chromaticity, ...], white: Chromaticity, power: float | None) -> bytes:
    columns = _to_d50(white) @ _columns(primaries, white)
    if not np.isfinite(columns).all() or abs(columns).max() > 100:
        raise ValueError("no colour space")
    if power is None:
        curve = b"para" + struct.pack(">IHH", 0, 3, 0) + b"".join(map(_fixed, _SRGB_CURVE))
    else:
        curve = b"para" + struct.pack(">IHH", 0, 0, 0) + _fixed(power)
    text = "relook".encode("utf-16-be")
    name = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(text), 28) + text
    tags = [(b"desc", name), (b"cprt", name), (b"wtpt", _xyz(_D50))]
    tags += [(b"rgb"[i : i + 1] + b"XYZ", _xyz(columns[:, i])) for i in range(3)]
    tags += [(letter + b"TRC", curve) for letter in (b"r", b"g", b"b")]
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for signature, content in tags:
        padded = content + bytes(-len(content) % 4)
        table += signature + struct.pack(">II", at + len(body), len(content))
        body += padded
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + table + body


def _columns(primaries: Sequence[Chromaticity], white: Chromaticity) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue, whose sum is the white point."""
    directions: npt.NDArray[np.float64] = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return np.asarray(directions * np.linalg.solve(directions, _white_xyz(white)), np.float64)


def _white_xyz(white: Chromaticity) -> npt.NDArray[np.float64]:
    x, y = white
    return np.array([x / y, 1, (1 - x - y) / y])


def _to_d50(white: Chromaticity) -> npt.NDArray[np.float64]:
    """Bradford's adaptation of a white point to the profile connection space's."""
    gains = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ _white_xyz(white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    return adapted


def _fixed(value: float) -> bytes:
    """ICC's s15Fixed16Number."""
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(values: Sequence[float] | npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))
