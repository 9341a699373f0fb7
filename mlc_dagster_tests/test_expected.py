"""Every error type of the product is either one that people are told of, or one that is caught where it is raised."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import mlc_dagster
from mlc_dagster.expected import Expected, FailureKind

CAUGHT_NEARBY = {
    "cli.errors.CommandError",
    "doctor.findings.Wrong",
    "doctor.fusion_session._Again",
    "doctor.pinning.NotWritten",
    "exports.faults.DeliveryStopped",
    "exports.layouts.crosswalk.CodeUnknown",
    "exports.layouts.fields.FieldUnknown",
    "exports.layouts.fixed_numbers.NegativeAmount",
    "exports.layouts.numbers.ScaleExceeded",
    "exports.places.SharedPath",
    "exports.writing.DocumentHeld",
    "exports.x12.reading.NotX12",
    "fusion.errors.NotPlain",
    "fusion.receiving.BodyRefused",
    "fusion.transport.TransportFailure",
    "ledger.approval.NotApproved",
    "ledger.audit_restoring.NotConfirmed",
    "ledger.checkpoints.CheckpointRefused",
    "ledger.evidence.EvidenceRefused",
    "ledger.exported.LaterVersionWaits",
    "ledger.exported.WrongFileState",
    "ledger.releases.NotParked",
    "ledger.releases.NotReleasable",
    "ledger.states.IllegalStep",
    "ledger.unsettled.HeldByAnother",
    "ledger.unsettled.NotUnsettled",
    "ledger.writer._ChangeFailed",
    "sftp.login.QuestionsOnly",
    "sftp.login._NotAPassword",
    "stampli.intake.feed.BeforeGoLive",
    "stampli.intake.feed.FirstContact",
    "stampli.intake.newer_versions.NotTaken",
    "stampli.intake.putting_away.ManifestUnclear",
    "stampli.overriding.OverrideRefused",
    "stampli.parsing.cells.CellFault",
    "stampli.parsing.parsed.FileRejected",
    "stampli.parsing.row_runs._NotOneRow",
    "stampli.parsing.unpacking.CompressionFault",
    "stampli.parsing.xml_stream._Limits",
    "stampli.posting.refusals.RefusedAlike",
    "stampli.posting.sending.LeaseLost",
    "stampli.posting.sending.Withheld",
    "stampli.reasons.UnknownReason",
    "stampli.validation.accounts.TemplateFault",
    "vault.keys.Unreadable",
    "vault.private_keys.PrivateKeyFault",
}
"""Answers to a command, to a caller or to a loop nearby; one that leaves it is a fault of the program."""


def test_every_error_is_expected_or_caught_nearby() -> None:
    """A new one that nobody placed would reach whoever is paged as a traceback, with no word of what to do."""
    found = {_name(error): error for error in _errors()}
    unplaced = sorted(name for name, error in found.items() if not _is_expected(error) and name not in CAUGHT_NEARBY)
    assert not unplaced
    assert not sorted(CAUGHT_NEARBY - found.keys()), "they are gone"


def test_every_expected_error_has_a_kind() -> None:
    """Without one the failure itself would fail while it is told."""
    kinds = {_name(error): error.kind for error in _errors() if issubclass(error, Expected) and error is not Expected}
    assert len(kinds) > 50
    assert FailureKind.UNEXPECTED not in kinds.values()


def _is_expected(error: type[BaseException]) -> bool:
    # What derives from one that is caught nearby is caught with it.
    return issubclass(error, Expected) or any(_name(base) in CAUGHT_NEARBY for base in error.__mro__[1:])


def _name(error: type[BaseException]) -> str:
    return f"{error.__module__.removeprefix('mlc_dagster.')}.{error.__name__}"


def _errors() -> Iterator[type[BaseException]]:
    for module in pkgutil.walk_packages(mlc_dagster.__path__, "mlc_dagster."):
        # The sandbox is no part of the product; the verifier is a program of its own; migrations run when imported.
        if any(part in module.name for part in (".sandbox", "__main__", ".migrations", ".evidence_verifier")):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.name:
                yield value
