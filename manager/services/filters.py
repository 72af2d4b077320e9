"""Which sandboxes a list shows, and which page of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

from manager.domain.codes import INVALID_METADATA_FORMAT
from manager.domain.errors import Invalid
from manager.domain.sandbox import Sandbox

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page, from 1, of how many items each."""

    page: int = 1
    size: int = 20


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, with what there is in all."""

    items: tuple[T, ...]
    paging: Paging
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are; 0 when nothing matches."""
        return -(-self.total // self.paging.size)

    @property
    def has_next(self) -> bool:
        """Whether a later page has items."""
        return self.paging.page < self.pages


@dataclass(frozen=True, slots=True)
class SandboxFilter:
    """States are alternatives and compare without case, metadata must match in full."""

    states: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether every sandbox belongs in the list."""
        return not self.states and not self.metadata

    def matches(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox belongs in the list."""
        if self.states and sandbox.status.state.value.lower() not in self.states:
            return False
        return all(sandbox.metadata.get(key) == value for key, value in self.metadata.items())


def parse_metadata(text: str) -> dict[str, str]:
    """The metadata filter: a query string inside the query; raises Invalid when it is not one."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
    except ValueError:
        raise Invalid(
            INVALID_METADATA_FORMAT, f"Invalid metadata format: {text[:80]!r} is not key=value pairs joined by &"
        ) from None
    return dict(pairs)


SLICE = 200
"""Items that are filtered before control returns to the event loop."""


async def page_in_slices(ids: Sequence[str], get: Callable[[str], T | None], wanted: Callable[[T], bool] | None,
                         paging: Paging) -> Page[T]:  # fmt: skip
    """One page of what `get` knows of these ids; `wanted` None means all of them.

    Thousands of items are filtered in slices, so that the event loop is never blocked for longer than one.
    """
    if wanted is None:
        first = (paging.page - 1) * paging.size
        found = [get(item) for item in ids[first : first + paging.size]]
        return Page(tuple(item for item in found if item is not None), paging, len(ids))
    matching: list[T] = []
    for start in range(0, len(ids), SLICE):
        if start:
            await asyncio.sleep(0)
        matching.extend(item for name in ids[start : start + SLICE] if (item := get(name)) is not None and wanted(item))
    return page_of(matching, paging)


def page_of(items: Iterable[T], paging: Paging) -> Page[T]:
    """One page of all items that match; counts the rest without keeping it."""
    first = (paging.page - 1) * paging.size
    total, chosen = 0, []
    for item in items:
        if first <= total < first + paging.size:
            chosen.append(item)
        total += 1
    return Page(tuple(chosen), paging, total)
