"""Assets ``sftp_exports/<feed>``, one per feed of mlc.yaml, and ``sftp_exports``, the delivery summary over all."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.exporting import EXPORTS, ExportStep, export_step
from mlc_dagster.assets.failures import ABOUT_FILE, KIND, FailureKind, kind_of, said
from mlc_dagster.assets.fusion_sources import BY_NAME
from mlc_dagster.assets.metadata import reasons_text, summary, table
from mlc_dagster.resources import OutboundResource
from mlc_dagster.settings import ExportSettings

if TYPE_CHECKING:
    from mlc_dagster.exports.steps import FeedReport

FEED_DESCRIPTION = """
{source} as {layout}, on {host} in `{directory}`: **each version once**, with proof.

What was read is compared with what the partner has; what is new or changed goes into a file whose name, number and
bytes are committed before the upload. The file is written under a temporary name, checked, then renamed. A file that
cannot be delivered waits with its bytes and goes first next time. A document that cannot be written is held with its
reason; the others go.
"""
SUMMARY_DESCRIPTION = """
What every feed delivered, and what waits: the state of all files and held documents, from the ledger.
"""


def feed_key(name: str) -> dg.AssetKey:
    """The asset of a feed."""
    return dg.AssetKey([EXPORTS, name])


def build_feed(feed: ExportSettings, windows: dg.TimeWindowPartitionsDefinition, group: str) -> dg.AssetsDefinition:
    """The asset that delivers one feed."""
    source = BY_NAME[feed.source]

    @dg.asset(
        key=feed_key(feed.name),
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[source.asset],
        group_name=group,
        description=FEED_DESCRIPTION.format(
            source=source.what, layout=feed.layout, host=feed.sftp.host, directory=feed.sftp.directory
        ),
        owners=["team:finance-systems"],
        kinds={"sftp"},
        tags={"domain": source.domain, "source": "oracle-fusion"},
        metadata={"dagster/column_schema": columns.EXPORTED_RECORD},
        code_version="1",
    )
    def _asset(context: dg.AssetExecutionContext, outbound: OutboundResource) -> dg.MaterializeResult:
        from mlc_dagster.exports.steps import deliver_feed, extracts_to_replay

        with export_step(context, outbound, feed=feed.name, only=(feed.name,)) as step:
            first, end = step.windows.first, step.windows.end
            replay = [] if step.planned else extracts_to_replay(step.outbound, feed.source, first, end)
            report = deliver_feed(
                step.outbound, feed.name, until=end, owner=step.owner, beyond=step.planned, replay=replay
            )
            step.summary.update(numbers_of(report))
            for failure in report.alerts_failed:
                context.log.warning("an alert could not be sent: %s", failure)
            if report.stopped is not None:
                raise _not_delivered(report)
        return _result(feed, step, report)

    return _asset


def _not_delivered(report: "FeedReport") -> dg.Failure:
    stopped = report.stopped
    assert stopped is not None  # noqa: S101 - asked before
    kind = kind_of(stopped.cause)
    return dg.Failure(
        description=str(stopped),
        metadata={
            KIND: str(FailureKind.REMOTE if kind is FailureKind.UNEXPECTED else kind),
            "error": type(stopped.cause).__name__,
            "cause": said(stopped.cause),
            ABOUT_FILE: stopped.file,
            **numbers_of(report),
        },
        allow_retries=False,
    )


def numbers_of(report: "FeedReport") -> dict[str, int]:
    """What the step did, in whole numbers."""
    built = report.built
    return {
        "new": built.new,
        "change": built.change,
        "cancel": built.cancel,
        "unchanged": built.unchanged,
        "stale": built.stale,
        "filtered": built.filtered,
        "held": built.held,
        "files_built": built.files,
        "files_delivered": sum(file.outcome in {"SENT", "INFERRED"} for file in report.delivered),
    }


def _result(feed: ExportSettings, step: ExportStep, report: "FeedReport") -> dg.MaterializeResult:
    numbers = numbers_of(report)
    outcome = "delivered" if numbers["files_delivered"] else "held" if numbers["held"] else "unchanged"
    files = [
        (row["name"], str(file.outcome), row["documents"], row["bytes"], row["sha256"])
        for file, row in zip(report.delivered, report.rows, strict=True)
    ]
    metadata: dict[str, Any] = {
        "outcome": outcome,
        **numbers,
        "changed_after_posting": report.built.changed_posted,
        "seconds": report.seconds,
        "table_of_files": table(columns.DELIVERED, files),
        "table_of_held": table(columns.HELD, report.built.held_documents),
        "summary": summary(f"{feed.name}, {step.windows.title}", _lines(numbers, report)),
    }
    return dg.MaterializeResult(metadata=metadata)


def _lines(numbers: dict[str, int], report: "FeedReport") -> Iterator[str]:
    counted = {name: numbers[name] for name in ("new", "change", "cancel", "unchanged", "stale", "held")}
    yield reasons_text({name: count for name, count in counted.items() if count}) or "nothing changed"
    for file, row in zip(report.delivered, report.rows, strict=True):
        size = f"{row['documents']} documents, {row['bytes']} bytes"
        yield f"{file.name}: {file.outcome}, {size}, SHA-256 {row['sha256']}"
    if report.built.changed_posted:
        yield f"{report.built.changed_posted} journals changed after they had been posted and sent"
    acknowledged = report.acknowledgements
    if acknowledged is not None and acknowledged.files:
        yield f"{acknowledged.files} acknowledgement files read"
    if report.acknowledgement_fault is not None:
        yield f"acknowledgements could not be read: {report.acknowledgement_fault}"


def build_summary(
    feeds: Sequence[ExportSettings], windows: dg.TimeWindowPartitionsDefinition, group: str
) -> dg.AssetsDefinition:
    """The asset over all feeds."""

    @dg.asset(
        name=EXPORTS,
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[feed_key(feed.name) for feed in feeds],
        group_name=group,
        description=SUMMARY_DESCRIPTION,
        owners=["team:finance-systems"],
        kinds={"sftp"},
        tags={"source": "oracle-fusion"},
        metadata={"dagster/column_schema": columns.EXPORTED_FILE},
        code_version="1",
    )
    def sftp_exports(context: dg.AssetExecutionContext, outbound: OutboundResource) -> dg.MaterializeResult:
        from mlc_dagster.exports.steps import delivery_summary

        names = [feed.name for feed in feeds]
        with export_step(context, outbound, feed=None, only=(), looks_only=True) as step:
            rows = delivery_summary(step.outbound, names, step.windows.first, step.windows.end)
        waiting, held = sum(row.waiting for row in rows), sum(row.held for row in rows)
        return dg.MaterializeResult(
            metadata={
                "outcome": "waiting" if waiting else "held" if held else "delivered",
                "files": sum(row.files for row in rows),
                "documents": sum(row.documents for row in rows),
                "files_waiting": waiting,
                "documents_held": held,
                "table_of_feeds": table(
                    columns.FEEDS, [(row.feed, row.files, row.documents, row.waiting, row.held) for row in rows]
                ),
            }
        )

    return sftp_exports
