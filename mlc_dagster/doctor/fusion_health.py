"""Oracle Fusion, step by step: network, trust, token, clock, each resource, the query dialect, what the user sees."""

import datetime as dt
from collections.abc import Collection, Iterable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from mlc_dagster.doctor.diagnosis import diagnosed
from mlc_dagster.doctor.findings import NotNeeded, Steps, Told, Warned, Wrong, raised
from mlc_dagster.doctor.fusion_needs import Need, attachments_of, needs_of
from mlc_dagster.doctor.fusion_resources import NoUser, Row, refused, shown
from mlc_dagster.doctor.fusion_session import FusionSession
from mlc_dagster.doctor.ledger_health import compared
from mlc_dagster.doctor.network import certificate, place_of, reach
from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.account import resolved_account
from mlc_dagster.fusion.business_units import read_business_units
from mlc_dagster.fusion.changes import counted_page
from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.fusion.ledgers import read_ledgers
from mlc_dagster.fusion.q import all_of, any_of
from mlc_dagster.fusion.tls import trusted_context
from mlc_dagster.fusion.transport import environment_proxy
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver

_GRANTS = {"client_credentials": "client credentials", "jwt_assertion": "an assertion about the user", "basic": "Basic"}
_SHORT_LIVED = 300
_DOCUMENTS = "Id"
"""How ids end that the flows ask by; lists of values are asked by name."""


def examine_fusion(
    steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float, *, unresolved: Collection[str]
) -> None:
    """All steps of the environment.

    Args:
        steps: of Fusion.
        settings: mlc.yaml.
        secrets: resolves the references of ``fusion:``.
        timeout: seconds one request may take.
        unresolved: keys of mlc.yaml whose reference leads to no secret.
    """
    settings = settings.model_copy(update={"fusion": settings.fusion.model_copy(update=_limits(settings, timeout))})
    missing = sorted(key for key in unresolved if key.startswith("fusion."))
    _network(steps, settings, secrets, timeout, missing)
    if missing:
        steps.left_out("sign-in", f"{missing[0]} leads to no secret")
        return
    if not steps.passed("TLS", "identity TLS"):
        steps.left_out("sign-in", "there is no trusted connection")
        return
    try:
        session = FusionSession(*resolved_account(settings, secrets))
    except Exception as error:  # noqa: BLE001 - told as the step's line, whatever it is
        steps.step("sign-in", partial(raised, diagnosed(error)))
        return
    with session:
        _Examination(steps, settings, session).go()


def _limits(settings: Settings, timeout: float) -> dict[str, Any]:
    return {"request_timeout": min(settings.fusion.request_timeout, timeout)}


def _network(
    steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float, missing: Collection[str]
) -> None:
    fusion = settings.fusion
    places: dict[tuple[str, int], tuple[str, str]] = {place_of(fusion.base_url): ("", fusion.base_url)}
    if fusion.token_url:
        places.setdefault(place_of(fusion.token_url), ("identity ", fusion.token_url))
    for (host, port), (prefix, url) in places.items():
        proxy = environment_proxy(url)
        name = f"{prefix}TLS"
        if proxy is not None:
            reach(steps, *place_of(proxy), timeout, prefix=f"{prefix}proxy ")
            steps.step(name, partial(NotNeeded, "a proxy stands in between; the requests below check it"))
            continue
        reach(steps, host, port, timeout, prefix=prefix)
        if url.startswith("https:") and "fusion.client_key" in missing:
            steps.left_out(name, "fusion.client_key leads to no secret")
            continue

        def look(url: str = url) -> Told:
            account, credentials = resolved_account(_tls_only(settings), secrets)
            key, phrase = credentials.client_key, credentials.client_key_passphrase
            return certificate(url, lambda: trusted_context(account, key, phrase), timeout, dt.datetime.now(dt.UTC))

        steps.step(name, look, needs=[f"{prefix}TCP"])


def _tls_only(settings: Settings) -> Settings:
    """Without the secrets that only signing in needs, which may be the ones that are missing."""
    signing = ("client_secret", "password", "assertion_key", "assertion_key_passphrase")
    return settings.model_copy(update={"fusion": settings.fusion.model_copy(update=dict.fromkeys(signing))})


class _Examination:
    """The steps that are signed in."""

    def __init__(self, steps: Steps, settings: Settings, session: FusionSession) -> None:
        self._steps = steps
        self._settings = settings
        self._session = session
        self._seen: list[tuple[Need, Row]] = []
        self._empty: list[str] = []

    def go(self) -> None:
        steps = self._steps
        steps.step("sign-in", self._token)
        steps.step("clock", self._clock)
        if not steps.passed("sign-in"):
            steps.left_out("resources", "sign-in is wrong")
            return
        if self._resources():
            self._dialect()
            self._visible()

    def _token(self) -> Told:
        fusion = self._settings.fusion
        if fusion.auth == "basic":
            return NotNeeded(f"Basic as {fusion.posting_user} goes with every request; the resources tell")
        said = self._session.token()
        lifetime, claims = said["expires_in"], said["claims"]
        text = f"a token by {_GRANTS[fusion.auth]} for scope {fusion.scope}"
        if lifetime is not None:
            text += f", good for {float(lifetime):.0f} s"
        subject = claims.get("sub")
        if subject is not None and subject != fusion.posting_user:
            fix = "set fusion.username to it, if that is the Fusion user who posts; the product looks for its invoices"
            return Warned(f"{text}; it is of the user {subject}, not {fusion.posting_user}", fix)
        if lifetime is not None and float(lifetime) < _SHORT_LIVED:
            return Warned(text, "so short a life means many token requests; raise it at the OAuth client")
        return text

    def _clock(self) -> Told:
        text, before, after = self._session.date()
        try:
            theirs = parsedate_to_datetime(text).astimezone(dt.UTC)
        except ValueError:
            fix = "windows are closed by this header: see whether a proxy takes it away"
            raise Wrong(f"Fusion's answers have no readable Date header ({text!r})", fix) from None
        # The header has whole seconds, cut off.
        return compared(theirs, before, after, whose="Fusion", fine=2.0)

    def _resources(self) -> bool:
        """Each resource; whether Fusion knows us at all."""
        groups = _grouped(needs_of(self._settings))
        for number, (name, needs) in enumerate(groups):
            try:
                told = [self._first_row(need) for need in needs]
            except NoUser as error:
                self._steps.step(name, partial(raised, error))
                # Basic: another try with a wrong password may lock the account. Else they would all say the same.
                if groups[number + 1 :]:
                    self._steps.left_out(f"{len(groups) - number - 1} more resources", f"{name} is wrong")
                return False
            except Wrong as error:
                self._steps.step(name, partial(raised, error))
                continue
            self._steps.step(name, partial(_said, told[0]))
        self._attachments()
        return True

    def _first_row(self, need: Need) -> str | Warned:
        session = self._session
        try:
            answer = session.ask(session.client.read(need.path, {**need.params, "limit": "1"}))
            again = any(empty == need.path for empty in self._empty)
            told, rows = shown(need, answer, session.settings.posting_user, told_before=again)
        except FusionError as error:
            raise refused(need, error, session.settings) from None
        if need.children is None:
            self._seen += [(need, rows[0])] if rows else []
            self._empty += [] if rows else [need.path]
        return told

    def _attachments(self) -> None:
        stampli = self._settings.stampli
        invoice = next((row["InvoiceId"] for _, row in self._seen if "InvoiceId" in row), None)
        if stampli is None or stampli.attachments == "none":
            return
        if invoice is None:
            self._steps.step("attachments", partial(NotNeeded, "no invoice is visible whose attachments could be read"))
            return
        need = attachments_of(self._settings, int(invoice))
        try:
            answer = self._session.ask(self._session.client.read(need.path, {**need.params, "limit": "1"}))
            counted_page(Row, answer, f"GET {need.path}")
        except FusionError as error:
            self._steps.step("attachments", partial(raised, refused(need, error, self._session.settings)))
        else:
            self._steps.step("attachments", lambda: f"200; {need.purpose}")

    def _dialect(self) -> None:
        """The row just seen must be found by its id, alone and with a second condition, as the flows ask."""
        candidates = {need.path: (need, row) for need, row in self._seen if self._asked_by_id(need, row)}
        if not candidates:
            self._steps.left_out("query dialect", "no resource showed a row that could be asked for")
            return
        self._steps.step("query dialect", lambda: self._found_again(candidates.values()))

    def _asked_by_id(self, need: Need, row: Row) -> bool:
        return need.key in row and need.key.endswith(_DOCUMENTS) and "/" not in need.path and "LOV" not in need.path

    def _found_again(self, candidates: Iterable[tuple[Need, Row]]) -> Told:
        version = self._settings.fusion.framework_version
        paths: list[str] = []
        for need, row in candidates:
            number = int(row[need.key])
            q = all_of(any_of(need.key, [number]), f"{need.key} > {number - 1}")
            params = {"onlyData": "true", "q": q, "fields": need.key, "orderBy": f"{need.key}:asc", "limit": "1"}
            answer = self._session.ask(self._session.client.read(need.path, params))
            found = counted_page(Row, answer, f"GET {need.path}").items or []
            if [int(each[need.key]) for each in found] != [number]:
                fix = (
                    f"framework version {version} does not understand questions as version 2 and later do, or a proxy "
                    'changes them: nothing may be posted, for "not found" would prove nothing; try '
                    "fusion.framework_version: 4"
                )
                raise Wrong(f"{need.path}: {q} does not find the row that was just seen", fix)
            paths.append(need.path)
        return f"framework version {version}: questions find the rows just seen ({', '.join(paths)})"

    def _visible(self) -> None:
        companies = self._settings.stampli.companies.values() if self._settings.stampli else ()
        posting = dict.fromkeys(company.business_unit for company in companies)
        exports = self._settings.exports
        units = dict.fromkeys([*posting, *(unit for entry in exports for unit in entry.business_units)])
        wanted = [*(company.ledger for company in companies), *(name for entry in exports for name in entry.ledgers)]
        if units:
            self._steps.step("business units", lambda: self._units(list(units)))
        if wanted:
            self._steps.step("ledgers", lambda: self._ledgers(list(dict.fromkeys(wanted))))
        for unit in posting:
            self._steps.step(
                f"invoices of {unit}", partial(self._invoices_of, unit), needs=[invoices.PATH, "query dialect"]
            )

    def _units(self, names: list[str]) -> Told:
        try:
            found = self._session.ask(read_business_units(self._session.client, names))
        except FusionError as error:
            # No flow reads this list: without it a wrong name is told by Fusion, at the first invoice.
            return Warned(f"cannot be told: {error}", "compare their names in mlc.yaml with Fusion by eye")
        absent = [name for name in names if name not in found]
        if absent:
            raise Wrong(f"not visible: {', '.join(absent)}", _ACCESS.format("business units"))
        return f"visible: {', '.join(names)}"

    def _ledgers(self, names: list[str]) -> Told:
        found = self._session.ask(read_ledgers(self._session.client, names))
        absent = [name for name in names if name not in found]
        if absent:
            raise Wrong(f"not visible: {', '.join(absent)}", _ACCESS.format("ledgers"))
        return f"visible: {', '.join(f'{name} ({found[name].currency})' for name in names)}"

    def _invoices_of(self, unit: str) -> Told:
        record = self._session.ask(invoices.any_invoice(self._session.client, unit))
        if record is not None:
            return "at least one is visible: that another is not there can be proven"
        fix = (
            "in a business unit that has invoices the user lacks data access to Payables there; in a new one enter one "
            "invoice by hand. Until one is visible the product cannot prove that an invoice is not there"
        )
        return Warned("none is visible", fix)


_ACCESS = (
    "correct the spelling in mlc.yaml; if it is right, give the user data access to these {} (data access set, "
    '"Manage Data Access for Users")'
)


def _grouped(needs: Iterable[Need]) -> list[tuple[str, list[Need]]]:
    """Needs by the name of their step: the questions by dates of children make one for each resource."""
    groups: dict[str, list[Need]] = {}
    for need in needs:
        groups.setdefault(f"{need.path} by dates of children" if need.children else need.name, []).append(need)
    return list(groups.items())


def _said(told: str | Warned) -> Told:
    return told
