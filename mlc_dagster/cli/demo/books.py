"""What one side says of the documents that leave Fusion, and where two sides differ.

What belongs here: counting and comparing. What does not: how a side is asked; files are read in ``partner_files``, and
Fusion and our ledger in ``outbound_accounts``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

Figures = Mapping[str, Decimal]
"""Sums by name: ``entered debit EUR`` in units of the currency, ``lines`` as a count."""


@dataclass(frozen=True)
class Book:
    """One side's documents of one kind."""

    told: Counter[str]
    """Documents by id, and how often this side has each."""
    figures: Figures
    documents: Mapping[str, Figures] = field(default_factory=dict[str, Figures])
    """The figures of each document, where the side tells them apart."""
    faults: tuple[str, ...] = ()
    """What does not hold within the side itself, such as a trailer that counts otherwise."""

    @classmethod
    def of(cls, documents: Mapping[str, Figures], told: Counter[str] | None = None, faults: Iterable[str] = ()) -> Self:
        """A book whose sums are those of its documents; ``told`` is once each when absent."""
        return cls(
            Counter(documents.keys()) if told is None else told, added(documents.values()), documents, tuple(faults)
        )

    def only(self, ids: Iterable[str]) -> "Book":
        """The part of it with these documents; those that are not there are left out."""
        return Book.of({each: self.documents[each] for each in ids if each in self.documents})

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"documents": self.told.total(), "figures": dict(sorted(self.figures.items()))}


def added(parts: Iterable[Figures]) -> dict[str, Decimal]:
    """Figures of the same name added up."""
    sums: dict[str, Decimal] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = sums.get(name, Decimal(0)) + value
    return sums


@dataclass(frozen=True)
class FeedBooks:
    """One feed, as Fusion, the delivered files and our ledger have it."""

    feed: str
    title: str
    fusion: Book
    files: Book
    ledger: Book
    held: Book
    """What the layout cannot carry: the partner does not have it, and a person knows."""

    def faults(self) -> list[str]:
        """Where the sides differ, in words; empty when what is in Fusion is in the files once, or held."""
        found = [f"{self.feed}: {fault}" for side in (self.fusion, self.files, self.ledger) for fault in side.faults]
        expected = self.fusion.only(self.fusion.told.keys() - self.held.told.keys())
        for name, side in (("the files", self.files), ("our ledger", self.ledger)):
            found += [f"{self.feed}: {fault}" for fault in _differences(expected, name, side)]
        return found

    def sides(self) -> dict[str, Book]:
        """The sides by what they are called."""
        return {
            "Fusion says": self.fusion,
            "the files say": self.files,
            "our ledger says": self.ledger,
            "held": self.held,
        }

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {name: side.document() for name, side in self.sides().items()}


def _differences(fusion: Book, name: str, side: Book) -> list[str]:
    found = [f"{each} is in Fusion and not in {name}" for each in sorted(fusion.told.keys() - side.told.keys())]
    found += [f"{each} is in {name} and not in Fusion" for each in sorted(side.told.keys() - fusion.told.keys())]
    found += [f"{each} is in {name} {times} times" for each, times in sorted(side.told.items()) if times != 1]
    for each in sorted(fusion.documents.keys() & side.documents.keys()):
        found += _figures_differ(f"{each}: ", fusion.documents[each], name, side.documents[each])
    return found + _figures_differ("", fusion.figures, name, side.figures)


def _figures_differ(what: str, fusion: Figures, name: str, side: Figures) -> list[str]:
    return [
        f"{what}{figure} is {one} in Fusion and {two} in {name}"
        for figure in sorted(fusion.keys() | side.keys())
        if (one := fusion.get(figure, Decimal(0))) != (two := side.get(figure, Decimal(0)))
    ]
