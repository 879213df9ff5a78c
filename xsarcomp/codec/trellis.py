"""The codes of trellis-coded quantization: their states, and where their paths run.

A *trellis* has two quantizers on one grid of points, and a code of a few states. A state says which quantizer the next symbol
belongs to; the parity of that symbol says which state follows. A *path* is the sequence of symbols of one *cell*, which is a
square of blocks: channel by channel from low to high frequency, in each channel row by row. It begins in state 0.

The longer a path, and the more states, the smaller the error at the same rate (``docs/decisions/0012-trellis.md``).
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARITY_CHECKS = {8: (0o13, 0o04), 16: (0o23, 0o04), 32: (0o45, 0o10), 64: (0o103, 0o024), 128: (0o235, 0o126)}
"""Number of states: parity checks h0 and h1 of the code, from Ungerboeck (1982), table I."""
CELLS = (1, 2, 4, 8, 16)
"""Latents along the edge of a cell."""
SMALLEST_SPACING, LARGEST_SPACING = 0.25, 1.0
"""Distances of two points in steps that the format allows."""


@dataclass(frozen=True)
class Trellis:
    """States and cells of trellis-coded quantization.

    References
    ----------
    Ungerboeck (1982), *Channel coding with multilevel/phase signals*, IEEE Transactions on Information Theory 28(1).
    """

    cell: int
    """Latents along the edge of a cell at most: one of ``CELLS``."""
    states: int
    """Number of states of the code, a key of ``PARITY_CHECKS``."""
    spacing: float
    """Distance of two points of the grid, in steps."""

    @cached_property
    def next_states(self) -> NDArray[np.uint8]:
        """State that follows a state and the parity of a symbol, shape (state, parity)."""
        h0, h1 = PARITY_CHECKS[self.states]
        state, parity = np.meshgrid(np.arange(self.states), np.arange(2), indexing="ij")
        # the register shifts down by one bit; both checks without their lowest bit are added where their inputs are 1
        following = (state >> 1) ^ (h0 >> 1) * (state & 1) ^ (h1 >> 1) * parity
        return following.astype(np.uint8)

    @cached_property
    def previous_states(self) -> NDArray[np.uint8]:
        """State before a state that was reached by a symbol of a parity, shape (state, parity)."""
        previous = np.empty((self.states, 2), np.uint8)
        state, parity = np.meshgrid(np.arange(self.states), np.arange(2), indexing="ij")
        previous[self.next_states, parity] = state
        return previous

    @classmethod
    def from_json(cls, content: Any) -> "Trellis":
        """Read the trellis of a model card; a TypeError or ValueError says what is wrong with it."""
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(cls)}:
            raise TypeError(f"trellis is {content!r}, expected cell, states and spacing")
        cell, states, spacing = content["cell"], content["states"], content["spacing"]
        if cell not in CELLS or states not in PARITY_CHECKS or isinstance(cell, bool):
            raise ValueError(
                f"trellis has cells of {cell!r} and {states!r} states, expected {CELLS} and {[*PARITY_CHECKS]}"
            )
        if not isinstance(spacing, float) or not SMALLEST_SPACING <= spacing <= LARGEST_SPACING:
            raise ValueError(f"trellis has a spacing of {spacing!r}, expected {SMALLEST_SPACING} to {LARGEST_SPACING}")
        return cls(int(cell), int(states), spacing)

    @property
    def has_cells(self) -> bool:
        """Whether paths run through cells of several blocks; then latents are points, not symbols."""
        return self.cell > 1


BLOCK_TRELLIS = Trellis(cell=1, states=8, spacing=0.5625)
"""The trellis of the first models: each block has a path of its own."""
CELL_TRELLIS = Trellis(cell=16, states=128, spacing=0.625)
"""The trellis of models that are trained now."""
