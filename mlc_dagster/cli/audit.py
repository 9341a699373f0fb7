"""``mlc audit``: sealing the audit trail, proving that nobody changed it, and handing the proof to an auditor.

What belongs here: options, and the words in which the findings are told. What does not: the chain, checkpoints and the
evidence pack (``ledger``).
"""

import dataclasses
import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import print_json
from mlc_dagster.cli.recovering import tell_unknown_files

if TYPE_CHECKING:
    from mlc_dagster.ledger.audit_verify import Verification
    from mlc_dagster.ledger.checkpoints import Checkpointing, Gap

app = typer.Typer(no_args_is_help=True, help="Seal, verify and export the audit trail.")


@app.command("verify")
def verify(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walk the whole chain, compare it with the checkpoints; exit code 1 when something was changed or is gone.

    A gap that two people documented after a restore (`mlc audit after-restore`) is told and is no fault: exit code 0.
    """
    from mlc_dagster.ledger import audit

    workplace = open_workplace(ctx, config)
    checkpointing = _checkpointing(workplace, signing=False)
    with workplace.ledger() as ledger:
        found = audit.verify(ledger, checkpointing)
    if as_json:
        print_json(dataclasses.asdict(found) | {"fault": found.fault})
    else:
        _tell(found, workplace)
    if found.fault is not None:
        raise typer.Exit(Exit.ATTENTION)


def _tell(found: "Verification", workplace: Workplace) -> None:
    if found.fault is None:
        documented = ", ".join(f"from link {gap.first} to {gap.last}" for gap in found.gaps)
        holds = f"holds, with a documented gap {documented}" if documented else "holds"
        typer.echo(f"The audit trail {holds}: {found.sealed} events sealed, {found.unsealed} not sealed yet.")
    else:
        typer.echo(
            f"mlc: the audit trail does NOT hold: {found.fault}; {found.sealed} events before it hold. "
            "Keep the ledger as it is and tell the controller and the auditor",
            err=True,
        )
        for fault in found.faults[1:]:
            typer.echo(f"mlc: {fault}", err=True)
        if found.checkpoints.last is not None and found.checkpoints.last.seq > found.sealed:
            typer.echo(
                "mlc: the same is seen after the ledger was restored from a backup; only then two people document it "
                "with mlc audit after-restore",
                err=True,
            )
    for gap in found.gaps:
        typer.echo(f"Gap {gap.gap}: {gap.told}. {_proven(gap)}")
    typer.echo(f"Head of the chain: {found.head}")
    said, last = found.checkpoints, found.checkpoints.last
    if last is None:
        typer.echo(f"No checkpoint yet: one is made every {workplace.settings.audit.checkpoint_every} sealed events.")
    else:
        by = "signed" if said.signed == said.count else f"{said.signed} of them signed"
        typer.echo(
            f"Checkpoints: {said.count} compared, {by}; the newest of link {last.seq}, made {last.at}; "
            f"second place: {said.place}"
        )
    if workplace.settings.audit.signing_key is None:
        typer.echo(
            "No signing key (audit.signing_key): checkpoints are hashes that whoever writes to their file can replace. "
            "`mlc audit keygen` makes a key."
        )
    for note in found.notes:
        typer.echo(f"Note: {note}")
    typer.echo("Kept elsewhere, the head shows later that the chain up to here was not rebuilt.")


def _proven(gap: "Gap") -> str:
    if gap.proven == gap.restored_seq:
        return "A checkpoint from before proves the restored links."
    return f"No checkpoint from before proves links {gap.proven + 1} to {gap.restored_seq}."


@app.command("seal")
def seal(
    ctx: typer.Context,
    checkpoint: Annotated[bool, typer.Option("--checkpoint", help="Also a checkpoint of the last link, now.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Append all events so far to the chain and make the checkpoints that are due; every run does so at its end."""
    from mlc_dagster.ledger.audit_sealing import seal_and_checkpoint

    workplace = open_workplace(ctx, config)
    with workplace.ledger() as ledger:
        sealed = seal_and_checkpoint(ledger, workplace.settings, workplace.secrets, now=checkpoint)
    if as_json:
        print_json({"sealed": sealed.events, "checkpoints": sealed.checkpoints, "problem": sealed.problem})
    else:
        made = f", {sealed.checkpoints} checkpoint{'s' if sealed.checkpoints != 1 else ''} made"
        typer.echo(
            f"{sealed.events} {'event' if sealed.events == 1 else 'events'} sealed{made if sealed.checkpoints else ''}."
        )
    if sealed.problem is not None:
        raise CommandError(f"the events are sealed, but there is no checkpoint: {sealed.problem}", Exit.ATTENTION)


@app.command("keygen")
def keygen(
    out: Annotated[
        Path | None, typer.Option("--out", help="New file of mode 0600 for the private key; - prints it, to be piped.")
    ] = None,
) -> None:
    """Make a signing key for checkpoints: `mlc audit keygen --out - | mlc secrets set audit/signing_key`.

    The public key and its fingerprint go to standard error: write them down where whoever runs mlc cannot change them.
    """
    from mlc_dagster.ledger.checkpoints import SigningKey

    if out is None:
        raise CommandError("--out: name a new file for the private key, or - to pipe it into `mlc secrets set`")
    key = SigningKey.generate()
    if str(out) == "-":
        if os.isatty(1):
            raise CommandError("--out -: would show the private key; pipe it: | mlc secrets set audit/signing_key")
        typer.echo(key.private_text())
    else:
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            raise CommandError(f"{out}: is there already and is not overwritten; name a new file") from None
        except OSError as error:
            raise CommandError(f"{out}: cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{key.private_text()}\n")
    reference = "store:audit/signing_key" if str(out) == "-" else f"file:{out.resolve()}"
    typer.echo(f"Public key:  {key.public_key}", err=True)
    typer.echo(f"Fingerprint: {key.key_id}", err=True)
    typer.echo(f'mlc.yaml:    audit: {{signing_key: "{reference}", public_keys: ["{key.public_key}"]}}', err=True)


@app.command("new-key")
def new_key(
    ctx: typer.Context,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Two people: the signing key is new, and the checkpoints so far were never signed; the next one is.

    Without it nothing is signed on top of unsigned checkpoints: their signatures may have been taken away.
    """
    from mlc_dagster.ledger.approval import NotApproved
    from mlc_dagster.ledger.audit_sealing import take_new_key
    from mlc_dagster.ledger.checkpoints import CheckpointRefused

    approval = two_people(by, approved_by, reason)
    workplace = open_workplace(ctx, config)
    checkpointing = _checkpointing(workplace)
    with workplace.ledger(actor=operator()) as ledger:
        try:
            made = take_new_key(ledger, checkpointing, approval)
        except (CheckpointRefused, NotApproved, OSError) as error:
            raise CommandError(str(error)) from None
    assert checkpointing.key is not None  # noqa: S101 - refused without one
    typer.echo(
        f"{checkpointing.key.key_id} signs from now on; {made} signed checkpoint{'s' if made != 1 else ''} made."
    )


@app.command("after-restore")
def after_restore(
    ctx: typer.Context,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Two people, after a restore of the ledger: document the links that were lost, and go on behind the restored head.

    Shows the range and asks before it signs, which needs the signing key. Names each checkpoint outside that speaks of
    a lost link; what is left must hold. From then on `mlc audit verify` and the evidence pack tell the gap, and it is
    no fault; any other gap still is. Exit code 1: files were received that the ledger does not know (`mlc files
    recover`).
    """
    from mlc_dagster.ledger.approval import NotApproved
    from mlc_dagster.ledger.audit_restoring import NotConfirmed, document_restore
    from mlc_dagster.ledger.checkpoints import CheckpointRefused

    approval = two_people(by, approved_by, reason)
    workplace = open_workplace(ctx, config)
    checkpointing = _checkpointing(workplace)
    with workplace.ledger(actor=operator()) as ledger:
        try:
            done = document_restore(
                ledger, checkpointing, approval, confirm=lambda gap, at: _confirmed(gap, at, yes=yes)
            )
        except NotConfirmed:
            raise typer.Abort from None
        except (CheckpointRefused, NotApproved, OSError) as error:
            # A backup may be older than files and not older than a checkpoint.
            tell_unknown_files(workplace, ledger)
            raise CommandError(str(error)) from None
        unknown = tell_unknown_files(workplace, ledger)
    if as_json:
        print_json(dataclasses.asdict(done) | {"unknown_files": unknown})
    else:
        typer.echo(f"Gap {done.gap.gap}: {done.gap.told}. {_proven(done.gap)}")
        typer.echo(f"Signed by {done.gap.key_id}. The trail goes on behind link {done.gap.restored_seq}.")
    if unknown:
        raise typer.Exit(Exit.ATTENTION)


def _confirmed(gap: "Gap", restored_at: str, *, yes: bool) -> bool:
    """Shown on stderr, which leaves --json whole: the backup's own time is known to who restored it, compare it."""
    head = f"link {gap.restored_seq}, event {gap.restored_event_id} of {restored_at}" if gap.restored_seq else "no link"
    typer.echo(
        f"Restored: to {head}. Lost: links {gap.first} to {gap.last} ({gap.links}), the last with a checkpoint of "
        f"{gap.checkpoint['at']}. {_proven(gap)}",
        err=True,
    )
    return yes or typer.confirm(f"Was the backup made then, and is this to be signed by {gap.key_id}?", err=True)


@app.command("export")
def export(
    ctx: typer.Context,
    begin: Annotated[str, typer.Option("--from", help="First day, such as 2026-10-01, or a moment (UTC).")],
    end: Annotated[str, typer.Option("--to", help="Day or moment (UTC) that is no longer part of it.")],
    out: Annotated[Path, typer.Option("--out", help="New folder, or new file ending in .zip.")],
    by: Annotated[str, typer.Option("--by", help="Who asks for it; goes on record.")],
    reason: Annotated[str, typer.Option("--reason", help="What for; goes on record.")],
    ask_remote: Annotated[
        bool, typer.Option("--ask-remote", help="Also the controls that ask Fusion and the partners' servers.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an evidence pack: population, controls, configuration, operator actions, the chain, and a verifier."""
    from mlc_dagster.cli.audit_controls import configuration_of, outbound_controls
    from mlc_dagster.ledger import audit, evidence
    from mlc_dagster.ledger.audit_sealing import seal_and_checkpoint

    period = _moment(begin, "--from"), _moment(end, "--to")
    if period[0] >= period[1]:
        raise CommandError(f"--to {end}: must be later than --from {begin}")
    for name, value in (("--by", by), ("--reason", reason)):
        if not value.strip():
            raise CommandError(f"{name}: is empty; it goes on record")
    workplace = open_workplace(ctx, config)
    settings, secrets = workplace.settings, workplace.secrets
    checkpointing = _checkpointing(workplace)
    with workplace.ledger(actor=operator()) as ledger:
        sealed = seal_and_checkpoint(ledger, settings, secrets, now=True)
        found = audit.verify(ledger, checkpointing)
        controls = [*outbound_controls(settings, secrets, ledger, period, ask=ask_remote)]
        controls.append(evidence.ControlResult("audit_chain_holds", "the whole trail", not found.faults, found.faults))
        request = evidence.Request(
            period, by.strip(), reason.strip(), configuration_of(settings, workplace.path, secrets), controls
        )
        try:
            pack = evidence.write_pack(ledger, checkpointing, request, out)
        except evidence.EvidenceRefused as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{out}: cannot be written: {error.strerror or error}") from None
    if as_json:
        print_json(dataclasses.asdict(pack) | {"checkpoint_problem": sealed.problem})
    else:
        typer.echo(f"{pack.place}: {pack.events} events, links {pack.links[0]} to {pack.links[1]}.")
        typer.echo(f"Manifest SHA-256: {pack.manifest_sha256}")
        typer.echo(f"Signed by: {pack.signed_by or 'nobody (no audit.signing_key)'}")
        typer.echo(
            "Give the auditor these two lines by another way than the pack. To check it: "
            f"python3 -I -S verify_evidence.py --manifest-sha256 {pack.manifest_sha256}"
        )
        for name in pack.controls_not_held:
            typer.echo(f"mlc: control {name} did not hold; see control_results.json", err=True)
        if sealed.problem is not None:
            typer.echo(f"mlc: no checkpoint could be made: {sealed.problem}", err=True)
    if found.faults or pack.controls_not_held:
        raise typer.Exit(Exit.ATTENTION)


@app.command("verifier")
def verifier(out: Annotated[Path, typer.Argument(help="New file.")] = Path("verify_evidence.py")) -> None:
    """Write verify_evidence.py alone: the auditor's own copy, which did not come with a pack."""
    from importlib.resources import files

    try:
        with out.open("xb") as stream:
            stream.write((files("mlc_dagster.ledger") / "evidence_verifier.py").read_bytes())
    except FileExistsError:
        raise CommandError(f"{out}: is there already and is not overwritten; name a new file") from None
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror}") from None
    typer.echo(f"{out} written. To check a pack: python3 -I -S {out} PACK --key SHA256:…")


@app.command("roles")
def roles(
    owner: Annotated[
        str, typer.Option("--owner", help="Role that owns the tables; made without a login.")
    ] = "mlc_owner",
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="Role that ledger.url logs in as; must be there.")
    ] = "mlc_pipeline",
    schema: Annotated[str, typer.Option("--schema", help="Schema of the ledger's tables.")] = "public",
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL; nothing is ever run.")] = False,
) -> None:
    """SQL for a DBA (PostgreSQL): the pipeline's role may only add to the audit tables, not change or empty them."""
    from mlc_dagster.ledger.audit_roles import roles_sql

    if not print_:
        raise CommandError("--print: prints the SQL for a DBA to run; this command never runs it")
    try:
        typer.echo(roles_sql(owner=owner, pipeline=pipeline, schema=schema))
    except ValueError as error:
        raise CommandError(str(error)) from None


def _checkpointing(workplace: Workplace, *, signing: bool = True) -> "Checkpointing":
    from mlc_dagster.ledger.audit_sealing import checkpointing_of
    from mlc_dagster.ledger.checkpoints import SigningKeyUnusable

    try:
        return checkpointing_of(workplace.settings, workplace.secrets, signing=signing)
    except SigningKeyUnusable as error:
        raise CommandError(str(error)) from None


def _moment(text: str, option: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} {text}: is not a date; write one such as 2026-10-01") from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
