"""Model files that a hostile author could make: arrays, headers and cards that lie, with an id that fits them.

:func:`hostile_card`, :func:`hostile_header` and :func:`hostile_values` draw one each; :func:`with_card`, :func:`with_array` and
:func:`with_arrays` change a sound file in one known way.
"""

import json
import math
import struct

import numpy as np

HUGE = (2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**70)
DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "F64": 8,
}  # fmt: skip
CARD_VALUES = [
    None, True, False, -1, 0, 1, 1.5, 2**31, 2**63, 2**70, 10**400, 1e308, -1e308, math.nan, math.inf, -math.inf, "", "\0", "x" * 100_000,
    [], {}, [[]], [math.nan], [0.0], [1.0], [-1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [1e308] * 3, [1e-308, 1.0, 2.0],
    [2.0] * 1000, ["1.0", "2.0", "3.0"], [True, True, True], {"channels": 2**40, "blocks": 1}, {"channels": 1, "blocks": 1},
    {"channels": 1024, "blocks": 32}, {"channels": 64, "blocks": 2**62}, {"channels": "64", "blocks": []}, {"channels": -1, "blocks": 0},
    "lapped", "lapped-residual", "classic", "../../etc/passwd", "/dev/zero", "https://example.org/model", "os.system", "__import__",
]  # fmt: skip


def split(content):
    """Header and data of a model file."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header, data, claimed=None):
    """A model file; a header may be text, and may claim another length than it has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def with_card(content, **changes):
    """A model file whose card says something else."""
    header, data = split(content)
    card = json.loads(header["__metadata__"]["card"])
    header["__metadata__"]["card"] = json.dumps(card | changes)
    return joined(header, data)


def hostile_card(content, rng):
    """One or two fields of the card hold what they cannot, or the card is no card."""
    header, data = split(content)
    card = json.loads(header["__metadata__"]["card"])
    which = rng.randrange(8)
    if which == 0:
        texts = (
            "",
            "null",
            "[]",
            "{",
            "NaN",
            '"card"',
            "1" * 5000,
            "[" * 100_000,
            '{"a":' * 100_000,
            "{}",
            "\ud800",
            "\0",
        )
        header["__metadata__"]["card"] = rng.choice(texts)
    elif which == 1:
        header["__metadata__"] = rng.choice((None, {}, [], {"card": None}, {"card": 5}, {"card": ["a"]}, {"cart": ""}))
    elif which == 2:
        text = json.dumps(card)
        header["__metadata__"]["card"] = text[:-1] + ', "architecture": "lapped-residual", "format": 1}'
    else:
        for _ in range(rng.randint(1, 2)):
            key = rng.choice((*card, "unknown", "__class__"))
            card[key] = rng.choice(CARD_VALUES)
        if rng.randrange(4) == 0:
            del card[rng.choice(sorted(card))]
        header["__metadata__"]["card"] = json.dumps(card)
    return joined(header, data)


def hostile_header(content, rng):
    """Offsets, shapes, types and names of arrays that do not fit the data, duplicate keys, sizes that no file has."""
    header, data = split(content)
    names = sorted(set(header) - {"__metadata__"})
    name = rng.choice(names)
    entry = header[name]
    first, last = entry["data_offsets"]
    which = rng.randrange(14)
    if which == 0:
        entry["data_offsets"] = rng.choice((
            [last, first], [first, first], [0, len(data)], [first + 1, last + 1], [first - 1, last], [-1, last], [first, len(data) + 1],
            [first, rng.choice(HUGE)], [rng.choice(HUGE)] * 2, [first], [first, last, last], "0", None, [0.5, 1.5], [str(first), str(last)],
        ))  # fmt: skip
    elif which == 1:  # two arrays share their bytes
        entry["data_offsets"] = header[rng.choice(names)]["data_offsets"]
    elif which == 2:
        shape = entry["shape"] or [1]
        shape[rng.randrange(len(shape))] = rng.choice((0, -1, 1.5, "1", None, *HUGE))
        entry["shape"] = shape
    elif which == 3:
        entry["shape"] = rng.choice(
            ([], [1] * 1000, [2**32, 2**32], [0, 2**62], None, "1", [[1]], [math.prod(entry["shape"])])
        )
    elif which == 4:
        entry["dtype"] = rng.choice((*DTYPES, "O", "V8", "", None, "F128", "f4", "complex64", "x" * 1000))
    elif which == 5:
        header[
            rng.choice(("../x", "/etc/passwd", "network.x", "network.", "\0", "a" * 100_000, "card", name.upper()))
        ] = header.pop(name)
    elif which == 6:
        del header[name]
    elif which == 7:
        text = json.dumps(header)
        again = json.dumps({name: header[rng.choice(names)]})
        return joined((text[:-1] + ", " + again[1:]).encode(), data)
    elif which == 8:
        claimed = rng.choice(
            (0, 1, len(content), 10**8 - 1, 10**8, 10**8 + 1, *(size for size in HUGE if size < 2**64))
        )
        return joined(header, data, claimed)
    elif which == 9:
        texts = (
            b"",
            b"null",
            b"[]",
            b"{}",
            b"{" * 10_000,
            b"[" * 200_000,
            b'{"a":' * 50_000,
            b"\xff" * 100,
            b" " * 500_000,
            b'"' * 999,
        )
        return joined(rng.choice(texts), data)
    elif which == 10:  # a whole array is of another shape or type, and its bytes fit
        return with_array(content, name, other_array(entry, rng))
    elif which == 11:
        return joined(
            header, data[: rng.randrange(len(data))] if rng.randrange(2) else data + rng.randbytes(rng.randint(1, 9))
        )
    elif which == 12:  # very many arrays
        header |= {f"network.{number}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(5000)}
    else:
        header[name] = rng.choice((None, [], {}, 5, "x", {"dtype": "F32"}, entry | {"more": 1}))
    return joined(header, data)


def other_array(entry, rng):
    """Zeros or noise in another type and shape than an array should have."""
    dtype = np.dtype(rng.choice(("u1", "i1", "<i2", "<u2", "<i4", "<f2", "<f4", "<f8", "?", "<i8")))
    shape = list(entry["shape"])
    which = rng.randrange(6)
    if which == 0:
        shape = shape[1:]
    elif which == 1:
        shape = [1, *shape]
    elif which == 2:
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 300))
    elif which == 3:
        shape = []
    elif which == 4:
        shape[0] = 0
    if which % 2:
        dtype = np.dtype(
            {"BOOL": "?", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "F32": "<f4"}.get(entry["dtype"], dtype)
        )
    count = math.prod(shape)
    return (
        np.frombuffer(rng.randbytes(count * dtype.itemsize), dtype).reshape(shape)
        if count < 10**6
        else np.zeros(shape, dtype)
    )


def with_array(content, name, array):
    """A model file in which one array is another."""
    return with_arrays(content, {name: array})


def with_arrays(content, changes):
    """A model file in which some arrays are others; None removes one. Nothing but the layout of the file is right."""
    names = {
        "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "int64": "I64",
        "float16": "F16", "float32": "F32", "float64": "F64",
    }  # fmt: skip
    header, data = split(content)
    result, parts, start = {"__metadata__": header.pop("__metadata__")}, [], 0
    for name in [*header, *(set(changes) - set(header))]:
        if name in changes:
            if changes[name] is None:
                continue
            array = np.ascontiguousarray(changes[name])
            shape, dtype, part = list(np.shape(changes[name])), names[array.dtype.name], array.tobytes()
        else:
            entry = header[name]
            shape, dtype, part = entry["shape"], entry["dtype"], data[slice(*entry["data_offsets"])]
        result[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(part)]}
        parts.append(part)
        start += len(part)
    return joined(result, b"".join(parts))


def hostile_values(content, rng, loaded):
    """Values of one or two arrays beyond what a decoder could bear: extremes, NaN, noise, rows that do not sum up."""
    changes = {}
    for name in rng.sample(sorted(loaded), rng.randint(1, 2)):
        array = loaded[name].copy()
        flat = array.reshape(-1)
        if array.dtype.kind == "f":
            extremes = (math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, -0.0, 0.0, 2.0**16, 1e5)
        else:
            limits = np.iinfo(array.dtype) if array.dtype != bool else None
            extremes = (0, 1) if limits is None else (limits.min, limits.max, 0, 1, limits.max // 2, 64, 63, 3, 8)
        which = rng.randrange(5)
        if which == 0:
            flat[:] = rng.choice(extremes)
        elif which == 1:
            flat[rng.randrange(flat.size)] = rng.choice(extremes)
        elif which == 2:
            flat[:] = (
                np.frombuffer(rng.randbytes(array.nbytes), array.dtype) if array.dtype != bool else flat[::-1].copy()
            )
        elif which == 3:
            flat[:] = flat[::-1].copy()
        else:
            places = [rng.randrange(flat.size) for _ in range(200)]
            flat[places] = [rng.choice(extremes) for _ in places]
        changes[name] = array
    return with_arrays(content, changes)
