"""What a profile may say about shapes, and the ends of files that it tells from their last bytes."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.stampli.parsing.profile import Profile, ProfileError, load_profile, parse_profile, shipped_profiles
from mlc_dagster_tests.stampli.builders import PROFILE, invoice_csv, invoice_rows, parse
from mlc_dagster_tests.stampli.builders_shapes import SPLIT, TYPED, XML, typed_file, typed_records, xml_file


def document(profile: Profile) -> dict[str, Any]:
    return profile.model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize(
    ("profile", "change", "word"),
    [
        (PROFILE, {"file": {"end": {"rule": "trailer"}}}, "end rule trailer goes with another row model"),
        (PROFILE, {"file": {"end": {"rule": "manifest"}}}, "end rule manifest goes with another row model"),
        (PROFILE, {"file": {"end": {"rule": "xml_end_tag"}}}, "end rule xml_end_tag goes with another row model"),
        (PROFILE, {"file": {"end": {"rule": "marker", "name": "done"}}}, "must hold {name} or {stem}"),
        (PROFILE, {"file": {"end": {"rule": "marker", "name": "{name}/x"}}}, "no slash"),
        (PROFILE, {"constants": {"no_column": "x"}}, "'no_column' is no column"),
        (SPLIT, {"file": {"end": {"rule": "none"}}}, "split needs the end rule manifest"),
        (SPLIT, {"file": {"compression": "gzip"}}, "compression must be none"),
        (SPLIT, {"rows": {"join": []}}, "join"),
        (SPLIT, {"rows": {"lines": {"file": "("}}}, "regular expression"),
        (TYPED, {"file": {"end": {"rule": "none"}}}, "go together"),
        (TYPED, {"file": {"end": {"counts": {"x": ["H"]}}}}, "the trailer has no cell 'x'"),
        (TYPED, {"file": {"end": {"counts": {"line_count": ["Q"]}}}}, "'Q' is no record type"),
        (TYPED, {"rows": {"escape": "|"}}, "rows.escape is the delimiter"),
        (TYPED, {"rows": {"records": {"A": {"role": "invoice", "cells": []}}}}, "role of 2 types"),
        (TYPED, {"rows": {"records": {"A": {"role": "detail", "cells": ["documnet"]}}}}, "'documnet' is no column"),
        (XML, {"rows": {"cells": {"line": {"lin_number": "x"}}}}, "'lin_number' is no column"),
        (XML, {"rows": {"cells": {"line": {"invoice_id": "x"}}}}, "a column has one path"),
    ],
)
def test_a_shape_that_does_not_fit_together_is_refused(profile: Profile, change: dict[str, Any], word: str) -> None:
    """A profile is written by hand; what it gets wrong must not wait for the first file."""
    with pytest.raises(ProfileError) as refused:
        parse_profile(yaml.safe_dump(_merged(document(profile), change)), source="mine.yaml")
    assert word in str(refused.value)


def _merged(target: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    other_rule = "rule" in change and change["rule"] != target.get("rule")
    merged = {} if other_rule else dict(target)
    for key, value in change.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_is_called_by_its_name(name: str) -> None:
    """The name in mlc.yaml is the one that the ledger keeps."""
    assert load_profile(name).name == name


def test_a_profile_from_before_constants_keeps_its_digest() -> None:
    """It stands beside every invoice that was ever posted."""
    assert PROFILE.digest == "f912dbdcd7e1b530525c4f546248b179be64386ac47c3b956c63c7f1f6d12578"


def test_a_constant_stands_in_for_a_column_of_any_shape(tmp_path: Path) -> None:
    """Approval by folder, or one company per folder, is nothing that a file says."""
    columns = [name for name in invoice_rows()[0] if name not in ("company_id", "status")]
    profile = parse_profile(
        yaml.safe_dump({**document(PROFILE), "constants": {"company_id": "C9", "status": "APPROVED"}}), source="x"
    )
    invoices, aside = parse(tmp_path, invoice_csv(invoice_rows("1.00"), columns=columns) + b"short\n", profile)
    assert [(found.company_id, found.problems) for found in invoices] == [("C9", ())]
    assert len(aside) == 1


TYPED_WHOLE = typed_file(typed_records(invoice_rows("1.00")))
XML_WHOLE = xml_file(invoice_rows("1.00"))


@pytest.mark.parametrize(
    ("profile", "content", "words"),
    [
        (TYPED, TYPED_WHOLE, None),
        (TYPED, TYPED_WHOLE.replace(b"\n", b"\r\n"), None),
        (TYPED, TYPED_WHOLE[:-1], "no line end"),
        (TYPED, TYPED_WHOLE.rpartition(b"FT|")[0], "the last record is no trailer (FT)"),
        (TYPED, b"", "the file is empty"),
        (XML, XML_WHOLE, None),
        (XML, XML_WHOLE.rstrip(), None),
        (XML, XML_WHOLE + b"<!-- the end -->\n<?done?>\n", None),
        (XML, XML_WHOLE.replace(b"InvoiceExport", b"x:InvoiceExport"), None),
        (XML, XML_WHOLE[:-20], "does not end with </InvoiceExport>"),
        (XML, XML_WHOLE + b"<", "does not end with"),
        (SPLIT, b'{"files": []}', None),
        (SPLIT, b'{"files": [', "may still be growing"),
    ],
)
def test_the_end_of_a_file_is_told_from_its_last_bytes(
    tmp_path: Path, profile: Profile, content: bytes, words: str | None
) -> None:
    """Without reading it: a file of a gigabyte is looked at with every poll."""
    path = tmp_path / "file"
    path.write_bytes(content)
    fault = profile.end_fault(path)
    assert (fault is None) if words is None else (fault is not None and words in fault)


@pytest.mark.parametrize(("profile", "content"), [(TYPED, TYPED_WHOLE), (XML, XML_WHOLE)])
def test_packed_files_of_other_shapes_end_and_are_read_alike(tmp_path: Path, profile: Profile, content: bytes) -> None:
    """Packing is below the shape."""
    packed = profile.model_copy(update={"file": profile.file.model_copy(update={"compression": "auto"})})
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content))
    assert packed.end_fault(path) is None
    invoices, aside = parse(tmp_path, gzip.compress(content), packed)
    assert len(invoices) == 1
    assert not aside


def test_a_marker_is_named_after_its_file() -> None:
    """``a.csv.done`` and ``a.done`` are both common."""
    for name, expected in (("{name}.done", "a.b.csv.done"), ("{stem}.ok", "a.b.ok")):
        changed = _merged(document(PROFILE), {"file": {"end": {"rule": "marker", "name": name}}})
        marker_of = parse_profile(yaml.safe_dump(changed), source="x").marker_of
        assert marker_of is not None
        assert marker_of("a.b.csv") == expected
    assert PROFILE.marker_of is None
