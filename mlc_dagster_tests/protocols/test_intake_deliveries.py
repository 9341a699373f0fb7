"""A3 for files that belong together: a marker beside the file, and a manifest that names the files of a delivery."""

from pathlib import Path

import pytest
import yaml

from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.settings import SettingsError
from mlc_dagster.stampli.profile import load_profile
from mlc_dagster_tests.protocols.intake import bill, drop, file_states, files, prove_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name
from mlc_dagster_tests.stampli.builders_shapes import manifest_name, manifest_of, split_parts


@pytest.fixture
def split(flow: Rehearsal) -> Rehearsal:
    """The flow reading deliveries of two files and a manifest."""
    flow.change_config({"stampli": {"profile": "stampli_split_eu"}})
    return flow


def test_a3_a_delivery_is_posted_when_all_of_it_is_there(split: Rehearsal) -> None:
    """Headers without their lines, or half of the lines, would look like whole files."""
    parts = split_parts(bill("1", "10.00", "5.50") + bill("2", "20.00"))
    manifest = manifest_of(parts)
    split.drop(manifest_name(), manifest)
    split.drop("x_headers.csv", parts["x_headers.csv"])
    split.process()
    assert file_states(split) == ["RELEASED"]
    split.drop("x_lines.csv", parts["x_lines.csv"][:-30])
    (received, _, _) = split.process()[0]
    assert "the manifest says" in received.receipts[0].text
    prove_books(split)
    split.drop("x_lines.csv", parts["x_lines.csv"])
    split.process()
    prove_books(split, "N-1", "N-2")
    assert file_states(split) == ["READ"]


def test_a3_the_archive_holds_the_whole_delivery_under_one_hash(split: Rehearsal) -> None:
    """What was posted is proven by what was read; all of it is erased together when its time has come."""
    parts = split_parts(bill("1", "10.00"))
    for name, content in {**parts, manifest_name(): manifest_of(parts)}.items():
        split.drop(name, content)
    split.process()
    (row,) = files(split)
    bundle = split.inbound.archive.path(row["sha256"])
    content = bundle.read_bytes()
    assert all(part in content for part in [*parts.values(), manifest_of(parts)])
    assert isinstance(split.inbound.archive, LocalArchive)
    assert len(list(split.inbound.archive.entries())) == 1


def test_a3_a_manifest_that_is_none_is_rejected_and_the_next_one_is_read(split: Rehearsal) -> None:
    """A JSON document of another kind waits for nothing."""
    split.drop(manifest_name(1), b'{"files": []}')
    parts = split_parts(bill("1", "10.00"))
    for name, content in {**parts, manifest_name(2): manifest_of(parts)}.items():
        split.drop(name, content)
    split.process()
    prove_books(split, "N-1")
    assert sorted(file_states(split)) == ["READ", "REJECTED"]


def test_a5_files_that_belong_together_are_left_where_they_are(split: Rehearsal) -> None:
    """To move the manifest alone would leave its files behind as nobody's."""
    split.change_config({"stampli": {"after_read": "archive"}})
    from mlc_dagster.stampli.wiring import connect_inbound
    from mlc_dagster.vault import SecretResolver

    with pytest.raises(SettingsError, match="only leave is possible"):
        connect_inbound(split.settings, SecretResolver.of(split.settings, {}), split.ledger)


def test_a3_a_file_waits_for_its_marker(flow: Rehearsal, tmp_path: Path) -> None:
    """A sender that writes a marker last says more than any look at size and time."""
    document = load_profile("stampli_lines_v1").model_dump(mode="json", exclude_unset=True)
    document["file"]["end"] = {"rule": "marker", "name": "{stem}.done"}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(document))
    flow.change_config({"stampli": {"profile": str(mine)}})
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    assert file_states(flow) == []
    flow.drop(file_name(1).replace(".csv", ".done"), b"")
    flow.process()
    prove_books(flow, "N-1")
