"""A file that is being written while the first poll looks at it."""

import threading
from pathlib import Path

from mlc_dagster.sandbox.exports import StampliExport

_PIECE = 48
"""Bytes per write: never a whole row, so that every state in between ends in the middle of one."""
_EVERY = 0.2


class GrowingFile:
    """Begins a file and goes on writing in small pieces, never to the end, until ``finish``."""

    def __init__(self, export: StampliExport, content: bytes) -> None:
        self._content = content
        self._written = len(content) // 4
        self.path: Path = export.begin(content[: self._written])
        self._export = export
        self._finished = threading.Event()
        self._writing = threading.Thread(target=self._write_on, name="growing-file", daemon=True)
        self._writing.start()

    def _write_on(self) -> None:
        while not self._finished.wait(_EVERY):
            if self._written + 2 * _PIECE < len(self._content):
                self._export.more(self.path, self._content[self._written : self._written + _PIECE])
                self._written += _PIECE

    def finish(self) -> None:
        """Write the rest; doing it twice changes nothing."""
        self._finished.set()
        self._writing.join()
        self._export.more(self.path, self._content[self._written :])
        self._written = len(self._content)
