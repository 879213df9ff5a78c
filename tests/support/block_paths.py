"""Symbols of the trellis whose paths run through one block, as the first models have it."""

from xsarcomp.codec.choice import optimized_points
from xsarcomp.codec.quantization import symbols_from_points


def optimized_symbols(latents, tables, anchor, shifts, step_db, lagrangian):
    """Symbols that an encoder chooses."""
    points = optimized_points(latents, tables, anchor, shifts, step_db, lagrangian)
    return symbols_from_points(points, tables.trellised[anchor])
