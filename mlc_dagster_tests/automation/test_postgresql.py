"""The whole flow with its ledger on PostgreSQL, as a production installation has it."""

from pathlib import Path

from mlc_dagster.ledger.audit import verify
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.automation.dagster_flow import dagster_flow
from mlc_dagster_tests.automation.fixtures import TODAY
from mlc_dagster_tests.servers.rehearsal import rehearsal
from mlc_dagster_tests.stampli.builders import invoice_rows


def test_whole_flow_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """Files, posting, controls, cure, reconciliation and the seal: every statement of them runs there too."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY), ledger_url=postgres_url) as remote:
        remote.change_config({"ledger": {"url": postgres_url}})
        remote.open_feed()
        with dagster_flow(remote) as flow:
            flow.drop(1, invoice_rows() + invoice_rows("5.00", invoice_id="2", invoice_number="I-2", vendor_id="99999"))
            flow.drop(2)
            first = flow.poll()
            assert (first.posted, first.newly_parked, first.failures) == (1, 1, [])
            assert [dict(file.buckets) for file in first.files] == [{"created": 1, "parked": 1}, {"duplicate": 1}]
            assert set(first.windows[0].checks.values()) == {True}
            remote.fusion.create_supplier("99999", "New Supplier")
            assert flow.poll().posted == 1
            [again] = flow.poll(window=first.windows[0].window).windows
            assert again.unchanged
            assert remote.fusion.books.totals() == {"USD": 105}
            seal = verify(remote.ledger)
            assert (seal.fault, seal.unsealed) == (None, 0)
