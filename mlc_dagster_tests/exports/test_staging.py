"""Files in the making: whatever way their bytes take to the disk, the file is the one that the writer assembles."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest

from mlc_dagster.exports.staging import StagedFile, Staging
from mlc_dagster.exports.writing import Frame, Writer
from mlc_dagster.ledger.archive import LocalArchive, file_sha256
from mlc_dagster_tests.exports.layouts import workbench as b

COLUMNS = "[{name: N, field: line.line_number}, {name: A, field: line.entered_dr}]"
FIXED = "[{name: N, field: line.line_number, length: 4}, {name: A, field: line.entered_dr, length: 12}]"
TRAILER = "trailer: [{cells: ['T', '{sequence:05d}', '{documents}', '{total.entered_dr:2d}']}]"
LAYOUTS = {
    "names and trailer": b.csv_layout(COLUMNS, TRAILER, "bom: true"),
    "nothing around": b.csv_layout(COLUMNS, "column_names: false"),
    "header with a count": b.csv_layout(COLUMNS, "header: [{cells: ['H', '{documents}']}]", TRAILER),
    "fixed with trailer": b.fixed_layout(
        FIXED, "trailer: [{columns: [{name: S, template: '{sequence}', length: 6}]}]", "record_length: 20"
    ),
}
FRAME = Frame("partner", 7, b.AT, b.AT, b.AT)
VERSIONS = [b.version_of(b.journal(name=name)) for name in ("one", "two", "three")]


def staged(writer: Writer, folder: Path) -> StagedFile:
    staging = Staging(folder, writer, None)
    for version in VERSIONS:
        file, group, rendered = staging.render(version)
        file.add(group, rendered)
    (made,) = staging.finish(empty_file=False)
    return made


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_file_is_what_the_writer_assembles(name: str, tmp_path: Path) -> None:
    """Some files are written as their documents come, some are put together at the end; nobody can tell which."""
    writer = b.writer_of(LAYOUTS[name])
    path, sha256 = staged(writer, tmp_path).assemble(FRAME, LocalArchive(tmp_path / "archive"))
    assert path.read_bytes() == b.assembled(writer, VERSIONS, sequence=7)
    assert sha256 == file_sha256(path)


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_is_assembled_again_under_another_number(name: str, taken: bool, tmp_path: Path) -> None:
    """Another run took its number meanwhile: nothing of the first try may be left in it, wherever that has gone."""
    writer = b.writer_of(LAYOUTS[name])
    archive = LocalArchive(tmp_path / "archive")
    file = staged(writer, tmp_path)
    path, first = file.assemble(FRAME, archive)
    if taken:
        archive.take(path, first)
    later = dataclasses.replace(FRAME, sequence=123, created_at=b.AT + dt.timedelta(hours=1))
    path, sha256 = file.assemble(later, archive)
    assert path.read_bytes() == b.assembled(writer, VERSIONS, sequence=123)
    assert sha256 == file_sha256(path)
