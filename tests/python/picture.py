"""The known picture of tests/e2e/lib/picture.js, painted and read with numpy.

16 x 9 equal blocks; row 1 carries the id and a checksum, row 2 the frame number, most significant bit first, white = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

COLUMNS, ROWS, FIRST_CODE_ROW, CODE_BITS = 16, 9, 1, 32
BLACK, WHITE = 16, 235
GREY_MARGIN = 40
NUMBER_PERIOD = 0x10000
STEP_BACK_LIMIT = 3
"""Frames: the large keyframe of a change of size may show a moment that the smaller encoding has shown already."""


def paint(width: int, height: int, picture_id: int, number: int, noise: int = 0) -> bytes:
    """One I420 frame. `noise`: below the code every pixel differs by up to so much, which no encoder can predict."""
    ramp = np.arange(width)[None, :] + np.arange(height)[:, None] + number * 2
    luma = (64 + np.abs(ramp % 128 - 64)).astype(np.uint8)
    if noise:
        top = round((FIRST_CODE_ROW + 2) * height / ROWS)
        luma[top:] += np.random.default_rng(number).integers(0, noise, (height - top, width), np.uint8)
    for bit, is_white in enumerate(_encode(picture_id, number % NUMBER_PERIOD)):
        left, right, top, bottom = _block(bit, width, height)
        luma[top:bottom, left:right] = WHITE if is_white else BLACK
    chroma = np.full(width * height // 4, 128, np.uint8)
    return luma.tobytes() + chroma.tobytes() * 2


def read(luma: np.ndarray) -> tuple[int, int] | None:
    """Id and number of a decoded frame, or None when the code is damaged."""
    height, width = luma.shape
    bits = []
    for bit in range(CODE_BITS):
        left, right, top, bottom = _block(bit, width, height)
        dx, dy = (right - left) // 3, (bottom - top) // 3
        level = float(luma[top + dy : bottom - dy, left + dx : right - dx].mean())
        if abs(level - 128) < GREY_MARGIN:
            return None
        bits.append(level > 128)
    word = np.packbits(bits)
    number = int(word[2]) << 8 | int(word[3])
    return (int(word[0]), number) if int(word[1]) == _checksum(int(word[0]), number) else None


@dataclass
class PictureReport:
    """What a subscriber saw of one track."""

    ids: set[int] = field(default_factory=set)
    readable: int = 0
    unreadable: int = 0
    backward: int = 0
    backward_by: int = 0
    last_number: int = -1
    size: tuple[int, int] = (0, 0)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    longest_gap_s: float = 0.0
    last_at_s: float = 0.0

    def take(self, luma: np.ndarray, at_s: float) -> None:
        """Counts one decoded frame."""
        if self.last_at_s:
            self.longest_gap_s = max(self.longest_gap_s, at_s - self.last_at_s)
        self.last_at_s = at_s
        self.size = (luma.shape[1], luma.shape[0])
        if self.size not in self.sizes:
            self.sizes.append(self.size)
        caption = read(luma)
        if caption is None:
            self.unreadable += 1
            return
        picture_id, number = caption
        self.ids.add(picture_id)
        self.readable += 1
        step = (number - self.last_number) % NUMBER_PERIOD
        if self.last_number >= 0 and step > NUMBER_PERIOD // 2:
            self.backward += 1
            self.backward_by = max(self.backward_by, NUMBER_PERIOD - step)
        self.last_number = number

    def reset(self) -> None:
        """Counts anew; keeps the last number."""
        number = self.last_number
        self.__init__(last_number=number)  # type: ignore[misc]


def _encode(picture_id: int, number: int) -> np.ndarray:
    return np.unpackbits(np.array([picture_id, _checksum(picture_id, number), number >> 8, number & 0xFF], np.uint8))


def _checksum(picture_id: int, number: int) -> int:
    return (picture_id * 31 + (number >> 8) * 17 + (number & 0xFF) * 7 + 0x5A) & 0xFF


def _block(bit: int, width: int, height: int) -> tuple[int, int, int, int]:
    column, row = bit % COLUMNS, FIRST_CODE_ROW + bit // COLUMNS
    return (
        round(column * width / COLUMNS),
        round((column + 1) * width / COLUMNS),
        round(row * height / ROWS),
        round((row + 1) * height / ROWS),
    )
