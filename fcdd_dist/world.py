"""Where am I: a value that can be built by hand, so that one process can ask what any rank of any world would see."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BadInput


def cut(total: int, parts: int, part: int) -> tuple[int, int]:
    """The half-open range ``[floor(part * total / parts), floor((part + 1) * total / parts))``.

    The ranges of all parts follow each other and cover ``range(total)``; their lengths differ by one at most.
    """
    return part * total // parts, (part + 1) * total // parts


@dataclass(frozen=True)
class World:
    """A rank among ``size`` ranks. Lanes, the fixed parts of every batch, are dealt to ranks in whole."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not one of {self.size}")

    @property
    def is_main(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def lanes(self, lanes: int) -> range:
        """The lanes of this rank: consecutive, at least one. Raises BadInput where there are more ranks than lanes."""
        if self.size > lanes:
            raise BadInput(f"{self.size} workers can't share {lanes} lanes: use at most {lanes} workers")
        return range(*cut(lanes, self.size, self.rank))


def rows(batch_size: int, lanes: int, lane: int) -> tuple[int, int]:
    """The rows of every global batch that belong to ``lane``: a half-open range."""
    return cut(batch_size, lanes, lane)
