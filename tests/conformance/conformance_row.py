"""The register of conformance rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchard import Orchard
from stack import Stack


@dataclass
class Ground:
    """What a row may use: a fresh zone on the shared stack, and the means to make more."""

    orchard: Orchard
    plant: Callable[..., Orchard]
    private_stack: Callable[..., Stack]

    @property
    def stack(self) -> Stack:
        return self.orchard.stack


Row = Callable[[Ground], None]
ROWS: dict[int, Row] = {}


def row(number: int) -> Callable[[Row], Row]:
    """Registers the check of a row."""

    def register(check: Row) -> Row:
        assert number not in ROWS, f"row {number} is there twice"
        ROWS[number] = check
        return check

    return register
