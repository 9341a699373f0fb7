"""``mlc secrets``: the encrypted store and its keys, and whether every reference of mlc.yaml leads to a secret.

What belongs here: asking for values without showing them, and telling the audit trail of changes. Values are typed or
piped; a command line is read by every user of the machine and kept by the shell.
"""

import datetime as dt
import sys
from typing import Annotated

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit, explain
from mlc_dagster.cli.output import add_rows, console, print_json, table
from mlc_dagster.settings import secret_references
from mlc_dagster.vault import SecretError
from mlc_dagster.vault.keys import KEYS_VARIABLE, new_key
from mlc_dagster.vault.secret_file import LARGEST_SECRET, secret_text
from mlc_dagster.vault.store import SecretStore, StoredSecret, refuse_name

app = typer.Typer(no_args_is_help=True, help="The encrypted store: init, set, list, check, rotate, remove.")

NameArgument = Annotated[str, typer.Argument(help="As after store: in mlc.yaml, such as fusion/client_secret.")]


@app.command("init")
def init(
    ctx: typer.Context,
    to_stdout: Annotated[
        bool, typer.Option("--stdout", help=f"Print a new key for {KEYS_VARIABLE} instead of making the key file.")
    ] = False,
    start_over: Annotated[
        bool, typer.Option("--start-over", help="Although secrets are there whose key is lost: they need re-entry.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Make the first key of the encrypted store; an existing key file is never overwritten."""
    if to_stdout:
        typer.echo(str(new_key()))
        return
    store = open_workplace(ctx, config).secrets.store
    if (lost := store.key_ids()) and not start_over and not store.keys.path.exists():
        raise CommandError(
            f"{store.path} holds secrets sealed with {_keys(lost)}: bring the lost {store.keys.path} back. If it is "
            "gone, `mlc secrets init --start-over` makes a new key, and every secret has to be set again"
        )
    made = store.keys.create(note=f"{_now():%Y-%m-%d} {operator()}")
    typer.echo(f"{store.keys.path} written with key {made}. Keep a copy where the backups of {store.path} are not:")
    typer.echo("without it nobody can read the secrets, with both anybody can. Next: mlc secrets set NAME")


# A value given as an argument is taken here, so that no error message repeats it.
@app.command("set", context_settings={"allow_extra_args": True})
def set_(ctx: typer.Context, name: NameArgument, config: ConfigOption = None) -> None:
    """Keep a secret: typed twice, unseen, or piped in (`mlc secrets set partner/key < key.pem`)."""
    if ctx.args:
        raise CommandError(
            "a secret is never given as an argument: the shell has it in its history now, so choose another value and "
            "type it when asked, or pipe it in"
        )
    workplace = open_workplace(ctx, config)
    refuse_name(name)
    store = workplace.secrets.store
    store.keys.read(f"store:{name}")  # Before anybody types anything.
    value = _typed_or_piped(name)
    workplace.secrets.register([value])
    key = store.put(name, value, by=operator(), at=_now())
    typer.echo(f"store:{name} is set, sealed with key {key}.")
    _tell_audit_trail(workplace)


@app.command("list")
def list_(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What the store holds, who set it and when; never a value. Exit code 1 when something needs re-entry."""
    entries = open_workplace(ctx, config).secrets.store.entries()
    if as_json:
        print_json([_document(entry) for entry in entries])
    elif not entries:
        typer.echo("The store is empty. mlc secrets set NAME puts something into it.")
    else:
        made = table("Name", "Key", "Set (UTC)", "By", "State")
        rows = [(one.name, one.key_id, one.changed_at, one.changed_by, one.fault or "ok") for one in entries]
        console().print(add_rows(made, rows))
    if any(entry.fault for entry in entries):
        raise typer.Exit(Exit.ATTENTION)


@app.command("rotate")
def rotate(
    ctx: typer.Context,
    drop_old: Annotated[
        bool,
        typer.Option("--drop-old", help="Take keys out that no secret needs any more; older backups can't be read."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new key in front and seal every secret with it, while runs go on. Exit code 1: something needs re-entry.

    Keys in MLC_SECRET_KEYS are changed by you: put a new one (`mlc secrets init --stdout`) in front of the old ones,
    restart everything that runs with it, then rotate.
    """
    workplace = open_workplace(ctx, config)
    store = workplace.secrets.store
    done = store.rotate(by=operator(), at=_now(), drop_old=drop_old)
    if as_json:
        print_json(
            {
                "added": done.added,
                "newest": done.newest,
                "moved": done.moved,
                "dropped": done.dropped,
                "not_needed": done.not_needed,
                "unreadable": [_document(entry) for entry in done.unreadable],
            }
        )
    else:
        typer.echo(f"Key {done.added} added." if done.added else f"The newest key of {KEYS_VARIABLE} is {done.newest}.")
        typer.echo(f"{done.moved} {'secret' if done.moved == 1 else 'secrets'} sealed with it anew.")
        if done.dropped:
            typer.echo(f"Taken out: {_keys(done.dropped)}.")
        if done.not_needed:
            how = (
                f"take them out of {KEYS_VARIABLE}" if store.keys.in_environment else "`rotate --drop-old` removes them"
            )
            typer.echo(f"Needed by no secret any more: {_keys(done.not_needed)}; {how}. Older backups need them still.")
    for entry in done.unreadable:
        typer.echo(f"mlc: store:{entry.name}: {entry.fault}; run: mlc secrets set {entry.name}", err=True)
    _tell_audit_trail(workplace)
    if done.unreadable:
        raise typer.Exit(Exit.ATTENTION)


@app.command("check")
def check(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Resolve every reference of mlc.yaml; prints ok or what is wrong, never a value. Exit code 2 when any is wrong."""
    workplace = open_workplace(ctx, config)
    found: list[dict[str, str | None]] = []
    for key, reference in secret_references(workplace.settings).items():
        fault: str | None = None
        try:
            workplace.secrets.resolve(reference)
        except SecretError as error:
            fault = f"{error.fault}; {error.remedy}"
        found.append({"key": key, "reference": reference, "fault": fault})
    if as_json:
        print_json(found)
    else:
        made = table("Key in mlc.yaml", "Reference", "State")
        console().print(add_rows(made, [(one["key"], one["reference"], one["fault"] or "ok") for one in found]))
    if any(one["fault"] for one in found):
        raise typer.Exit(Exit.CONFIGURATION)


@app.command("remove")
def remove(
    ctx: typer.Context,
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Forget a secret."""
    workplace = open_workplace(ctx, config)
    refuse_name(name)
    users = [key for key, reference in secret_references(workplace.settings).items() if reference == f"store:{name}"]
    if not yes:
        needed = f" It is used by {', '.join(users)}." if users else ""
        typer.confirm(f"Forget store:{name}?{needed}", abort=True)
    workplace.secrets.store.remove(name, by=operator(), at=_now())
    typer.echo(f"store:{name} is forgotten.")
    _tell_audit_trail(workplace)


def _typed_or_piped(name: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Value of store:{name}", hide_input=True, confirmation_prompt=True))
    return secret_text(f"store:{name}", "what was piped in", sys.stdin.buffer.read(LARGEST_SECRET + 3))


def _tell_audit_trail(workplace: Workplace) -> None:
    """Events for changes that the audit trail does not have yet, an earlier command's that could not tell included."""
    store: SecretStore = workplace.secrets.store
    untold = store.changes(untold_only=True)
    try:
        with workplace.ledger(actor=operator()) as ledger:
            for change in untold:
                # The number shows an event that was written twice, where the machine failed in between.
                with ledger.transaction() as transaction:
                    transaction.audit(
                        change.kind,
                        f"store:{change.name}" if change.name else "keys",
                        key_id=change.key_id,
                        by=change.by,
                        at=change.at.isoformat(),
                        change=change.id,
                    )
                store.told(change)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        # The change itself is made, and the address of the ledger may be the very secret that is still missing.
        typer.echo(
            f"mlc: the audit trail could not be told yet ({explained[1][0]}); the store has it on record, and the next "
            "`mlc secrets` command that changes something tells it",
            err=True,
        )


def _document(entry: StoredSecret) -> dict[str, object]:
    return {
        "name": entry.name,
        "key_id": entry.key_id,
        "changed_at": entry.changed_at,
        "changed_by": entry.changed_by,
        "fault": entry.fault,
    }


def _keys(ids: "list[str] | tuple[str, ...]") -> str:
    return f"{'key' if len(ids) == 1 else 'keys'} {', '.join(ids)}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
