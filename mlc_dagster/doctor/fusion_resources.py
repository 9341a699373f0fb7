"""What an answer of Fusion's to a question for one row means: role, data access, address or dialect.

What belongs here: the words for each status and for no rows. What does not: which resources are asked for
(``fusion_needs``), and the steps (``fusion_health``).
"""

from typing import Any

from mlc_dagster.doctor.diagnosis import diagnosed
from mlc_dagster.doctor.findings import Warned, Wrong
from mlc_dagster.doctor.fusion_needs import Need
from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.changes import counted_page
from mlc_dagster.fusion.errors import AccessRefused, BusinessRefusal, NotAuthorised, Redirected
from mlc_dagster.settings import FusionSettings

Row = dict[str, Any]


class NoUser(Wrong):
    """Fusion refuses a fresh token: every further question would be refused in the same way."""


def shown(need: Need, answer: Answer, user: str, *, told_before: bool) -> tuple[str | Warned, list[Row]]:
    """What a 200 says, and its rows. ``told_before``: the same resource had none a moment ago.

    Raises:
        Wrong: no row where nothing can be posted without one.
        ResponseInvalid: it is no page.
    """
    rows: list[Row] = counted_page(Row, answer, f"GET {need.path}").items or []
    if rows or need.children:
        return f"200{', rows are visible' if rows else ''}; {need.purpose}", rows
    text = f"200 with zero rows; {need.purpose}"
    if told_before:
        return f"200 with zero rows, as before; {need.purpose}", rows
    if need.may_be_empty:
        return f"200 with zero rows, as it is where nothing is held; {need.purpose}", rows
    fix = (
        f"the role of {user} lets it read the resource (else it would be 403), but data security shows it nothing, or "
        "there is nothing yet: check the data access of the user (business units, ledgers, reference data sets; "
        '"Manage Data Access for Users")'
    )
    if need.must_have_rows:
        raise Wrong(text, fix)
    return Warned(text, fix), rows


def refused(need: Need, error: Exception, settings: FusionSettings) -> Wrong:
    """What any other answer means."""
    user = settings.posting_user
    match error:
        case NotAuthorised():
            fix = (
                f"the sign-in worked, so Fusion does not know the user behind it, or does not trust it: there must be "
                f"a user named exactly {user} (Security Console, Users), not locked, in this environment"
            )
            return NoUser(f"401: {error.reason}", fix if settings.auth != "basic" else error.text)
        case Redirected():
            return Wrong(error.text, "write the address it redirects to, if it is your environment's")
        case AccessRefused(status=403):
            fix = (
                f"give a role of {user} the privilege to read this resource (Security Console, Roles); where every "
                "resource answers 403, an address filter in front of Fusion may refuse this machine"
            )
            return Wrong(f"403, the role lacks the function privilege; {need.purpose}", fix)
        case AccessRefused(status=404):
            fix = "check fusion.base_url; if other resources answer, the user's role hides this one or the release has "
            extra = f"; check {need.setting}" if need.setting.startswith("fusion.") else ""
            return Wrong(f"404, no such resource; {need.purpose}", f"{fix}not got it{extra}")
        case AccessRefused(status=406):
            fix = f"it does not offer framework version {settings.framework_version}: set fusion.framework_version"
            return Wrong(f"406: {'; '.join(detail.text for detail in error.details)}", f"{fix} to one it offers")
        case BusinessRefusal() if need.children:
            fix = (
                "set outbound.child_dates: false; a line that changes without its document is then found by the daily "
                "look-back and sweep only"
            )
            return Wrong(f"{error.text}; {need.purpose}", fix)
        case BusinessRefusal():
            fix = f"compare {need.setting} with the names that Fusion gives" if need.setting else "see what it names"
            return Wrong(f"{error.text}; {need.purpose}", fix)
        case _:
            return diagnosed(error)
