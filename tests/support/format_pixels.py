"""Model files, and symbols to pixels in float64, written from ``docs/format.md`` sections 4 to 6 alone.

Imports nothing of xsarcomp, see :mod:`format_frames`.
"""

import hashlib
import itertools
import json
import math
from decimal import Decimal, localcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.support.format_frames import points_of

SAFETENSORS = {"I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "F32": "<f4", "BOOL": "?"}


class ModelFromTheFormat:
    """A model file (section 4): ``id``, ``card`` and ``tables``, its arrays by name."""

    def __init__(self, path):
        content = Path(path).read_bytes()
        self.id = hashlib.sha256(content).hexdigest()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        self.card = SimpleNamespace(**json.loads(header.pop("__metadata__")["card"]))
        self.arrays = {}
        for name, entry in header.items():
            first, stop = (start + offset for offset in entry["data_offsets"])
            values = np.frombuffer(content[first:stop], SAFETENSORS[entry["dtype"]])
            self.arrays[name] = values.reshape(entry["shape"])
        self.tables = SimpleNamespace(**{name: values for name, values in self.arrays.items() if "." not in name})

    def anchor(self, step_db):
        """Anchor nearest to a step on a logarithmic scale (section 6.1)."""
        distances = [abs(math.log(step_db / anchor)) for anchor in self.card.anchor_steps_db]
        return distances.index(min(distances))

    def interpolated(self, numbers, step_db):
        """Numbers of the card at a step, linear over its logarithm, constant beyond the anchors."""
        return float(np.interp(math.log(step_db), np.log(self.card.anchor_steps_db), numbers))


def f(values):
    """Rounded to float32, 0 below 2**-90 (section 6.3)."""
    values = np.asarray(values, np.float64)
    return np.where(np.abs(values) < 2.0**-90, 0.0, values).astype(np.float32)


def q(values):
    """Nearest integer from -127 to 127, as int64."""
    return np.clip(np.rint(values), -127, 127).astype(np.int64)


def mirrored(points, reach):
    """Points (plane, 64, ny, nx) with so many more of them on each side (section 6.2)."""
    axes = []
    for size in points.shape[2:]:
        places = np.arange(-reach, size + reach)
        reflections = np.floor_divide(places, size)
        inside = places - reflections * size
        axes.append((np.where(reflections % 2 == 1, size - 1 - inside, inside), reflections % 2 == 1))
    (rows, rows_turned), (columns, columns_turned) = axes
    result = points[:, :, rows][:, :, :, columns].copy()
    for channel in range(64):
        vertical, horizontal = divmod(channel, 8)
        if vertical % 2:
            result[:, channel, rows_turned] *= -1
        if horizontal % 2:
            result[:, channel, :, columns_turned] *= -1
    return result


def latents_of(points, model, step_db):
    """Section 6.1, float32."""
    anchor = model.anchor(step_db)
    result = np.zeros(points.shape, np.float32)
    for channel in range(64):
        of_channel, shifts = points[:, channel], model.tables.shifts[anchor, channel]
        u = np.float64(np.float32(step_db * 9 / 16 if model.tables.trellised[anchor, channel] else step_db))
        shift = shifts[np.clip(np.abs(of_channel), 1, 6) - 1].astype(np.float64)
        result[:, channel] = np.where(of_channel == 0, 0.0, (of_channel - np.sign(of_channel) * shift) * u)
    return result


def _inputs(points, trellised, step_db):
    """72 integers at each place but those of the outermost ring (section 6.3)."""

    def g(values):
        return np.sign(values) * np.minimum(127, np.rint(24 * np.log1p(np.abs(values))))

    here = points[:, :, 1:-1, 1:-1]
    channels = [g(here[:, c] * (9 / 16 if trellised[c] else 1.0)) for c in range(1, 64)]
    lowest = points[:, 0]
    beside = (lowest[:, :-2, 1:-1], lowest[:, 2:, 1:-1], lowest[:, 1:-1, :-2], lowest[:, 1:-1, 2:])
    channels += [g(other - here[:, 0]) for other in beside]
    channels += [q(here[:, 0] * step_db / 2)] + [np.zeros_like(here[:, 0])] * 4
    return np.stack(channels, axis=-1).astype(np.int64)


def _sums_3x3(levels, inputs):
    """Integer sums of a layer that sees nine places, over (plane, y, x, channel)."""
    _, height, width, _ = inputs.shape
    around = [inputs[:, i : i + height - 2, j : j + width - 2] for i in range(3) for j in range(3)]
    return np.concatenate(around, axis=-1) @ levels.astype(np.int64)


def with_network(points, latents, model, step_db):
    """Section 6.3: latents of the inner places, 2 + blocks fewer on each side."""
    network = {name.removeprefix("network."): values for name, values in model.arrays.items() if "." in name}
    blocks = model.card.network["blocks"]
    with localcontext() as context:
        context.prec = 40
        t = int((Decimal(step_db).ln() * 2**15).to_integral_value()) / 2**16

    def condition(name):
        k = network[name].astype(np.float64)
        return ((k[..., 0] + k[..., 1] * t) + k[..., 2] * t**2) + k[..., 3] * t**3

    def numbers(layer):
        return network[f"{layer}.units"].astype(np.float64), network[f"{layer}.bias"].astype(np.float64)

    (units, bias), (gain, shift) = numbers("entry"), condition("condition.coefficients")
    inputs = _inputs(points, model.tables.trellised[model.anchor(step_db)], step_db)
    values = _sums_3x3(network["entry.levels"], inputs).astype(np.float32) * f(units * (1 / 24) * (1 + gain))
    values = values + f(bias * (1 + gain) + shift)
    for b in range(blocks):
        name = f"blocks.{b}"
        entry_unit = np.float64(network[f"{name}.entry_levels.unit"][0])
        hidden_unit = np.float64(network[f"{name}.hidden_levels.unit"][0])
        (units, bias), (gain, shift) = numbers(f"{name}.spatial"), condition(f"{name}.condition.coefficients")
        y = q(values * f(1 / entry_unit))
        sums = _sums_3x3(network[f"{name}.spatial.levels"], y).astype(np.float32)
        hidden = sums * f(units * entry_unit * (1 + gain) / hidden_unit)
        z = q(np.maximum(0, hidden + f((bias * (1 + gain) + shift) / hidden_unit)))
        units, bias = numbers(f"{name}.mix")
        sums = (z @ network[f"{name}.mix.levels"].astype(np.int64)).astype(np.float32)
        values = values[:, 1:-1, 1:-1] + (sums * f(units * hidden_unit) + f(bias))
    exit_unit = np.float64(network["exit_levels.unit"][0])
    y = q(np.maximum(0, values) * f(1 / exit_unit))
    units, bias = numbers("exit")
    sums = (y @ network["exit.levels"].astype(np.int64)).astype(np.float32)
    offsets = (sums * f(units * exit_unit) + f(bias)) * np.float32(step_db)
    reach = 2 + blocks
    return latents[:, :, reach:-reach, reach:-reach] + offsets.transpose(0, 3, 1, 2)


def signal_from_the_format(symbols, pixels, model, step_db):
    """Signal (plane, y, x) in float64, dB above the offset (sections 6.1 to 6.4)."""
    points, _ = points_of(symbols, model.tables.trellised[model.anchor(step_db)])
    network = model.card.network
    reach = 1 + (2 + network["blocks"] if network else 0)
    points = mirrored(points, reach)
    latents = latents_of(points, model, step_db)
    if network:
        latents = with_network(points, latents, model, step_db)
    basis = model.tables.lapped_basis / 2.0**15
    gains = np.full((8, 8), model.interpolated(model.card.texture_gains, step_db))
    gains[0, 0] = 1.0
    planes, _, rows, columns = latents.shape
    blocks = latents.reshape(planes, 8, 8, rows, columns).astype(np.float64)
    blocks = np.einsum("av,bh,vh,pvhij->pijab", basis, basis, gains, blocks, optimize=True)
    canvas = np.zeros((planes, 8 * rows + 8, 8 * columns + 8))  # its first pixel is -12: block -1 begins at -8 - 4
    for i in range(rows):
        for j in range(columns):
            canvas[:, 8 * i : 8 * i + 16, 8 * j : 8 * j + 16] += blocks[:, i, j]
    return canvas[:, 12 : 12 + pixels[0], 12 : 12 + pixels[1]]


def _corrected(decibel, corrections, offset_db):
    """Section 6.6."""
    spacing, residuals, gains = corrections
    if residuals is not None:
        decibel = decibel + residuals * spacing
    if gains is None:
        return decibel
    spread = np.repeat(np.repeat(gains, 64, axis=2), 64, axis=3)[:, :, : decibel.shape[1], : decibel.shape[2]]
    gain, level = spread[:, 0], spread[:, 1]
    power, pivot = 10 ** (decibel / 10), 10 ** ((3.0 * level + offset_db) / 10)
    moved = power * (1 + (10 ** (gain / 500) - 1) * power**2 / (power**2 + pivot**2))
    return np.where(gain == 0, decibel, 10 * np.log10(moved))


def means_from_the_format(levels, symbols, model, step_db):
    """10 log10(M) of each tile (section 6.7), shape (plane, y_tile, x_tile); NaN for tiles that are left as they are."""
    trellised = model.tables.trellised[model.anchor(step_db)]
    points, _ = points_of(symbols, trellised)
    values = points * np.where(trellised, step_db * 9 / 16, step_db)[:, None, None]
    means = np.full(levels.shape, np.nan)
    for plane, i, j in itertools.product(*map(range, levels.shape)):
        if levels[plane, i, j] != 2**20 - 1:
            blocks = values[plane, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].reshape(64, -1)
            n = blocks.shape[1]
            d = blocks[0].sum() / (8 * n)
            v = min((blocks**2).sum() / (64 * n) - d**2, 100)
            means[plane, i, j] = model.card.offset_db + d + v * math.log(10) / 20 + levels[plane, i, j] / 32
    return means


def _leveled(decibel, classes, means):
    """Section 6.7, in powers that are multiples of M."""
    result = decibel.copy()
    for plane, i, j in itertools.product(*map(range, means.shape)):
        tile = (plane, slice(64 * i, 64 * i + 64), slice(64 * j, 64 * j + 64))
        valid = classes[tile] == 0
        if np.isnan(means[plane, i, j]) or not valid.any():
            continue
        with np.errstate(all="ignore"):
            p = 10 ** ((decibel[tile] - means[plane, i, j]) / 10)
            w, rest = 1 / (1 + 1 / p**2), 1 / (1 + p**2)
            gain = (valid.sum() - (p * rest)[valid].sum()) / (p * w)[valid].sum()
            if np.isfinite(gain) and gain > 0:
                result[tile] += 10 * np.log10(rest + gain * w)
    return result


def _limits(scale, dtype):
    """Valid range of a dtype (section 6.5)."""
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        if scale == "decibel":
            return max(limits.min, -500), min(limits.max, 500)
        return 1, limits.max
    if scale == "decibel":
        return -500.0, min(500.0, float(np.finfo(dtype).max))
    limits = np.finfo(dtype)
    reach = 500 / {"power": 10, "amplitude": 20}[scale]
    return max(float(limits.smallest_subnormal), 10**-reach), min(float(limits.max), 10**reach)


def pixels_from_the_format(signal, classes, exact, corrections, means=None, *, dtype, scale, nodata, model, step_db):
    """Backscatter (plane, y, x) of a signal (sections 2, 6.5 to 6.7)."""
    dtype = np.dtype(dtype)
    decibel = signal + model.card.offset_db + model.interpolated(model.card.mean_corrections_db, step_db)
    decibel = _corrected(decibel, corrections, model.card.offset_db)
    if means is not None:
        decibel = _leveled(decibel, classes, means)
    values = decibel if scale == "decibel" else 10 ** (decibel / {"power": 10, "amplitude": 20}[scale])
    if dtype.kind != "f":
        values = np.rint(values)
    result = np.clip(values, *_limits(scale, dtype)).astype(dtype)
    if nodata is not None:
        result = _beside_nodata(result, classes, nodata)
    for name, value in ((1, np.nan), (2, np.inf), (3, -np.inf), (4, 0), (5, nodata)):
        if (classes == name).any():
            result[classes == name] = value
    result[classes == 6] = exact
    return result


def _beside_nodata(values, classes, nodata):
    """Valid pixels that happen to equal nodata move to the next number."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f":
        nodata = np.float64(nodata).astype(dtype)
        other = np.nextafter(nodata, dtype.type(0 if abs(nodata) >= 1 else 1))
    elif nodata != int(nodata) or not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        return values
    else:
        other = nodata - 1 if nodata == np.iinfo(dtype).max else nodata + 1
    values[(classes == 0) & (values == nodata)] = other
    return values
