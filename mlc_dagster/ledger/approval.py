"""Who decides and who agrees: names and a reason fit for the record, and two people who are two.

What belongs here: the rule itself, so that no caller can go round it. An ``Approval`` that breaks it cannot be made,
and what overrides a control takes one. What does not: when two names are one person (``people``), which actions take
one person or two. Names are claimed, not proven.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlc_dagster.ledger.people import is_invisible, same_person, scripts, spellings

if TYPE_CHECKING:  # It asks ``require_listed`` itself.
    from mlc_dagster.ledger.database import Transaction

SHORTEST_REASON = 10
"""Characters. "ok" and "see above" tell an auditor nothing."""
_LONGEST = {"by": 100, "approved_by": 100, "reason": 1000}


class NotApproved(Exception):
    """A name or the reason is missing, or one person stands for two; nothing was written.

    ``field`` is ``by``, ``approved_by`` or ``reason``; None where the whole is at fault.
    """

    def __init__(self, fault: str, field: str | None = None) -> None:
        self.fault = fault
        self.field = field
        super().__init__(f"{field}: {fault}" if field else fault)


def require_listed(by: str, approved_by: str, approvers: Collection[str]) -> None:
    """Raise NotApproved unless both names are those of two of ``approvers``; an empty list allows everybody."""
    listed: dict[str, str] = {}
    for field, name in (("by", by), ("approved_by", approved_by)):
        entry = next((each for each in approvers if spellings(each) & spellings(name)), None)
        if approvers and entry is None:
            raise NotApproved(f"{name} is not among approvers in mlc.yaml", field)
        listed[field] = entry or name
    if same_person(*listed.values()):
        raise NotApproved(f"{approved_by} is who asks for it ({by}); it takes two different people", "approved_by")


@dataclass(frozen=True)
class Decision:
    """What one person decides, and why.

    Raises:
        NotApproved: it does not say who, or not why.
    """

    by: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", _person("by", self.by))
        object.__setattr__(self, "reason", _fit("reason", self.reason))
        if len(self.reason) < SHORTEST_REASON or not any(character.isalpha() for character in self.reason):
            raise NotApproved(
                f"{self.reason!r} is no reason an auditor could follow; write at least {SHORTEST_REASON} characters",
                "reason",
            )

    @property
    def said(self) -> dict[str, str]:
        """Names and reason as the audit trail has them."""
        return {"by": self.by, "reason": self.reason}

    def record(
        self,
        transaction: "Transaction",
        kind: str,
        subject: str,
        *,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        **detail: Any,
    ) -> None:
        """Write the audit event of an action that was decided so, in the transaction of the action itself."""
        transaction.audit_action(kind, subject, before=before, after=after, **{**detail, **self.said})


@dataclass(frozen=True)
class Approval(Decision):
    """What two people decide: one asks for it, another agrees. Whatever overrides a control takes this.

    Raises:
        NotApproved: a name or the reason is missing, or both names are one person's.
    """

    approved_by: str

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "approved_by", _person("approved_by", self.approved_by))
        if same_person(self.by, self.approved_by):
            raise NotApproved(
                f"{self.approved_by} is who asks for it ({self.by}); it takes two different people", "approved_by"
            )

    @property
    def said(self) -> dict[str, str]:
        """Names and reason as the audit trail has them."""
        return super().said | {"approved_by": self.approved_by}

    @property
    def told(self) -> str:
        """Reason and names in one text, for a column that people read."""
        return f"{self.reason} (by {self.by}, approved by {self.approved_by})"


def _fit(field: str, value: str) -> str:
    text = " ".join(value.split())
    if not text:
        raise NotApproved("is empty; it goes on record", field)
    if not text.isprintable():
        raise NotApproved("has control or invisible characters; it goes on record as people read it", field)
    if len(text) > _LONGEST[field]:
        raise NotApproved(f"has {len(text)} characters; {_LONGEST[field]} at most go on record", field)
    return text


def _person(field: str, value: str) -> str:
    text = _fit(field, value)
    if any(map(is_invisible, text)):
        raise NotApproved("has control or invisible characters; it goes on record as people read it", field)
    if not spellings(text):
        raise NotApproved(f"{text!r} is nobody's name", field)
    if len(found := scripts(text)) > 1:
        raise NotApproved(f"{text!r} mixes letters of {' and '.join(sorted(found))}, which look alike", field)
    return text
