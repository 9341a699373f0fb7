"""Suppliers as documents to export."""

import datetime as dt
from collections.abc import Iterator

import pytest

from mlc_dagster.exports.rest import SOURCES
from mlc_dagster.fusion.records import KINDS, SupplierRecord, canonical
from mlc_dagster.fusion.supplier_records import SUPPLIERS
from mlc_dagster.sandbox import seed as seeded
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.document_reading import TODAY, changed, connect
from mlc_dagster_tests.fusion.raw_server import in_loop


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(130, TODAY)) as running:
        yield running


@in_loop
async def test_suppliers_come_with_their_sites_in_every_framework_version(sandbox: FusionSandbox) -> None:
    """A partner's vendor list is by site; the pinned version must not show in it."""
    read_in: list[list[bytes]] = []
    for version in (2, 4, 9):
        async with connect(sandbox, framework_version=version) as client:
            reads = await changed(client, SUPPLIERS)
        read_in.append(sorted(canonical(read.content) for read in reads))
    found = {read.content.number: read.content for read in reads if isinstance(read.content, SupplierRecord)}
    assert set(found) == set(sandbox.seed.supplier_numbers())
    assert [site.name for site in found[seeded.TWO_PAY_SITES_SUPPLIER].sites] == ["HQ", "WEST"]
    assert found["30000"].sites[0].pays
    assert read_in[0] == read_in[1] == read_in[2]


@in_loop
async def test_tax_and_bank_identifiers_are_never_read_into_a_record(sandbox: FusionSandbox) -> None:
    """What is not there cannot leak into a partner's file, an archive or a log."""
    async with connect(sandbox) as client:
        reads = await changed(client, SUPPLIERS)
    assert not any(b"Taxpayer" in canonical(read.content).replace(b"TaxpayerCountry", b"") for read in reads)


@in_loop
async def test_only_what_changed_in_the_range_is_read(sandbox: FusionSandbox) -> None:
    """A poll every few minutes must not read all suppliers."""
    at = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
    async with connect(sandbox) as client:
        reads = await changed(client, SUPPLIERS)
        sandbox.world.touch("suppliers", [reads[0].fusion_id], at=at)
        again = await changed(client, SUPPLIERS, at, at + dt.timedelta(minutes=1))
    assert [read.fusion_id for read in again] == [reads[0].fusion_id]
    assert again[0].last_update_date == at


def test_every_source_of_the_settings_can_be_read() -> None:
    """A name that mlc.yaml takes and nothing reads would fail at the first poll."""
    assert set(SOURCES) == set(KINDS)
