"""Names and reasons on the command line: the options, and the refusal of a name or reason that cannot go on record.

Every command that overrides a control demands two people through ``two_people`` before it opens anything. The rule
itself is the ledger's (``ledger.approval``), which makes it hold for every other caller too.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.errors import CommandError

if TYPE_CHECKING:
    from mlc_dagster.ledger.approval import Approval, Decision, NotApproved

ByOption = Annotated[str, typer.Option("--by", help="Who asks for it: a person's name.", show_default=False)]
ApprovedByOption = Annotated[
    str, typer.Option("--approved-by", help="Who else approves it: another person.", show_default=False)
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, in words an auditor can follow; it goes on record.", show_default=False)
]


def two_people(by: str, approved_by: str, reason: str) -> "Approval":
    """The approval of an action that overrides a control.

    Raises:
        CommandError: a name or the reason is missing, or both names are one person's.
    """
    from mlc_dagster.ledger.approval import Approval, NotApproved

    try:
        return Approval(by=by, approved_by=approved_by, reason=reason)
    except NotApproved as refused:
        raise _of_an_option(refused) from None


def one_person(by: str, reason: str) -> "Decision":
    """What one person decides.

    Raises:
        CommandError: the name or the reason is missing.
    """
    from mlc_dagster.ledger.approval import Decision, NotApproved

    try:
        return Decision(by=by, reason=reason)
    except NotApproved as refused:
        raise _of_an_option(refused) from None


def _of_an_option(refused: "NotApproved") -> CommandError:
    option = f"--{(refused.field or 'by').replace('_', '-')}"
    return CommandError(f"{option}: {refused.fault}; nothing was changed")
