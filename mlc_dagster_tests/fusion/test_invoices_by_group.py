"""Finding invoices by the group that they were created in, whatever became of them since."""

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, NotPlain
from mlc_dagster.fusion.invoices import Control
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.raw_server import in_loop
from mlc_dagster_tests.fusion.test_sandbox import TODAY, connect
from mlc_dagster_tests.sandbox.fusion_caller import invoice

GROUP = "MLC 2026-11-20-08:15 g1"


def enter(fusion: FusionSandbox, number: str, group: str | None = None) -> int:
    given = {"InvoiceDate": TODAY.isoformat(), "AccountingDate": TODAY.isoformat()}
    return fusion.enter_invoice(invoice(number, "30.00", **given, **({"InvoiceGroup": group} if group else {})))


async def numbers(client: FusionClient, group: str, control: Control | None) -> tuple[list[str], bool]:
    found = await invoices.find_by_group(client, group, control)
    return sorted(row.number for row in found.rows), found.control_seen


@in_loop
async def test_all_of_a_group_are_found_with_their_proof() -> None:
    """A window's name has a colon; the control row, outside of the group, shows that the question works."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        control = Control(enter(fusion, "CTRL-1"), "CTRL-1")
        renumbered = enter(fusion, "INV-1", GROUP)
        enter(fusion, "INV-2", GROUP)
        enter(fusion, "INV-3", GROUP.replace("g1", "g10"))
        fusion.world.renumber_invoice(renumbered, "INV-1A")
        async with connect(fusion) as client:
            assert await numbers(client, GROUP, control) == (["INV-1A", "INV-2"], True)
            assert await numbers(client, "MLC none", control) == ([], True)
            fusion.faults.add("zero_rows", path="invoices")
            assert await numbers(client, GROUP, control) == ([], False)


@in_loop
async def test_a_group_that_cannot_be_asked_for_is_refused() -> None:
    """A quote in its name would change the question."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        async with connect(fusion) as client:
            for group in ("it's", "MLC%"):
                with pytest.raises(NotPlain):
                    await invoices.find_by_group(client, group, None)


@in_loop
async def test_what_was_created_above_an_id_in_groups_of_one_beginning() -> None:
    """Others' groups, and those without one, are left out; so is what was there before."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        enter(fusion, "OLD-1", GROUP)
        mark = enter(fusion, "OLD-2", GROUP)
        enter(fusion, "NEW-1", "MLC 2026-11-20-08:30 g2")
        enter(fusion, "NEW-2", "another")
        enter(fusion, "NEW-3")
        async with connect(fusion) as client:
            assert [row.number for row in await invoices.created_since(client, "MLC ", mark)] == ["NEW-1"]
            fusion.faults.add("status", method="GET", path="invoices", status=400)
            with pytest.raises(BusinessRefusal):
                await invoices.created_since(client, "MLC ", mark)
