"""Two people: every command that overrides a control demands both names and a reason, before it opens anything."""

from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer.main

from mlc_dagster.cli import app
from mlc_dagster_tests.cli.conftest import BOTH, ONE, run_mlc

OVERRIDES: dict[str, tuple[str, ...]] = {
    "audit after-restore": (),
    "audit new-key": (),
    "exports abandon": ("1",),
    "exports after-restore": ("--same-installation",),
    "exports confirm": ("1", "arrived"),
    "exports numbers": ("--jump", "5", "--partner", "ZZ:US>ZZ:THEM/P"),
    "exports rebase": ("acme",),
    "exports resend": ("1", "--again"),
    "exports restart": ("acme",),
    "files recover": ("--all",),
    "invoices abandon": ("1",),
    "invoices mark-posted": ("1", "--fusion-id", "4711"),
    "invoices release": ("1", "--hold", "DUP_NORMALISED"),
    "invoices repost": ("1",),
    "retention hold release": ("1",),
}
"""What sends, pays, gives up or counts as delivered against what a check found; with arguments that ask for it."""

DECISIONS: dict[str, tuple[str, ...]] = {
    "audit export": ("--from", "2026-10-01", "--to", "2026-11-01", "--out", "pack"),
    "exports moved": ("acme",),
    "files baseline": (),
    "files process": ("--all",),
    "retention hold add": ("--company", "C100"),
}
"""A person decides something that no check has found otherwise: one name, and why."""

NEITHER = {
    # Show, check or verify.
    "audit roles", "audit verifier", "audit verify", "config check", "config schema", "doctor", "exceptions",
    "exports held", "exports list", "exports show", "files list", "invoices list", "invoices show", "layout check",
    "layout list", "layout preview", "retention hold list", "profile check", "profile list", "profile show",
    "retention plan", "secrets check", "secrets list",
    # Run what runs by itself; nobody decides.
    "audit seal", "retention run", "run inbound", "run outbound",
    # Judged again by the same checks: who runs it is on record, with a reason if there is one.
    "invoices retry",
    # Before there is a ledger, or beside the product.
    "audit keygen", "demo", "dev", "init", "sandbox drop",
    # Told by the store's own journal, with who and when; no check is overridden.
    "secrets init", "secrets remove", "secrets rotate", "secrets set",
}  # fmt: skip


def commands() -> dict[str, click.Command]:
    """Every command of ``mlc`` by its words."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from below(inner, (*words, name))
        else:
            yield " ".join(words), command

    return dict(below(typer.main.get_command(app), ()))


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def replaced(option: str, value: str) -> tuple[str, ...]:
    """Names and reason of two people, one of them otherwise."""
    given = list(BOTH)
    given[given.index(option) + 1] = value
    return tuple(given)


def test_every_command_says_how_many_people_it_takes() -> None:
    """A new command cannot forget: name it here, and let the tests below hold it to that."""
    known = {*OVERRIDES, *DECISIONS, *NEITHER}
    assert set(commands()) - known == set(), "say whether it overrides a control, decides something, or neither"
    assert len(known) == len(OVERRIDES) + len(DECISIONS) + len(NEITHER)


def test_two_names_are_asked_for_where_a_control_is_overridden_and_nowhere_else() -> None:
    """A command with --approved-by that is not listed would not be tested; one that is listed must have it."""
    takes_two = {name for name, command in commands().items() if "--approved-by" in options(command)}
    assert takes_two == set(OVERRIDES)
    for name in (*OVERRIDES, *DECISIONS):
        assert {"--by", "--reason"} <= options(commands()[name]), name


@pytest.mark.parametrize("other", ["anna", " Anna@corp ", "CORP\\ANNA"])
@pytest.mark.parametrize("command", sorted(OVERRIDES))
def test_one_person_overrides_nothing(command: str, other: str) -> None:
    """Refused before mlc.yaml is looked for: nothing is opened, asked or changed."""
    names = ("--by", "anna", "--approved-by", other, "--reason", "checked with the supplier")
    result = run_mlc(*command.split(), *OVERRIDES[command], *names)
    assert result.exit_code == 2
    assert "two different people" in result.stderr
    assert result.stderr.startswith("mlc: --approved-by: ")


@pytest.mark.parametrize("left_out", ["--by", "--approved-by", "--reason"])
@pytest.mark.parametrize("command", sorted(OVERRIDES))
def test_a_name_or_reason_left_out_is_refused(command: str, left_out: str) -> None:
    """Neither name has a default: the person who types is nobody until they say so."""
    given = list(BOTH)
    place = given.index(left_out)
    result = run_mlc(*command.split(), *OVERRIDES[command], *given[:place], *given[place + 2 :])
    assert result.exit_code == 2
    assert left_out in result.stderr
    assert "mlc.yaml" not in result.stderr


@pytest.mark.parametrize("option", ["--by", "--approved-by", "--reason"])
@pytest.mark.parametrize("command", sorted(OVERRIDES))
def test_an_empty_name_or_reason_is_refused(command: str, option: str) -> None:
    """It would stand in the audit trail as nobody, or as no reason."""
    result = run_mlc(*command.split(), *OVERRIDES[command], *replaced(option, " "))
    assert result.exit_code == 2
    assert result.stderr == f"mlc: {option}: is empty; it goes on record; nothing was changed\n"


@pytest.mark.parametrize("command", sorted(OVERRIDES))
def test_a_reason_that_says_nothing_is_refused(command: str) -> None:
    """An auditor asks years later."""
    result = run_mlc(*command.split(), *OVERRIDES[command], *replaced("--reason", "as agreed"))
    assert result.exit_code == 2
    assert "no reason an auditor could follow" in result.stderr


@pytest.mark.parametrize("command", sorted(OVERRIDES))
def test_two_people_with_a_reason_get_as_far_as_the_configuration(
    command: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusals above are about the names, not about the arguments beside them."""
    monkeypatch.chdir(tmp_path)
    result = run_mlc(*command.split(), *OVERRIDES[command], *BOTH)
    assert result.exit_code == 2
    assert "no mlc.yaml in" in result.stderr


@pytest.mark.parametrize("left_out", ["--by", "--reason"])
@pytest.mark.parametrize("command", sorted(DECISIONS))
def test_a_decision_names_who_and_why(command: str, left_out: str) -> None:
    """One person is enough, and goes on record."""
    given = list(ONE)
    place = given.index(left_out)
    result = run_mlc(*command.split(), *DECISIONS[command], *given[:place], *given[place + 2 :])
    assert result.exit_code == 2
    assert left_out in result.stderr
