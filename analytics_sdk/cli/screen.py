"""What a command says while it works: lines, and on a terminal one that moves."""

from __future__ import annotations

from typing import TextIO

COLUMNS = 80


class Screen:
    """Writes to a terminal, a file, or nowhere.

    Args:
        output: Where to; None keeps silent.
    """

    def __init__(self, output: TextIO | None) -> None:
        """Start on an empty line."""
        self._output = output
        self._moves = output is not None and output.isatty()
        self._shown = ""

    def line(self, text: str = "") -> None:
        """Write a line that stays."""
        if self._output is not None:
            self._wipe()
            print(text, file=self._output, flush=True)

    def progress(self, text: str) -> None:
        """Write a line that the next one replaces; on terminals only."""
        if self._output is not None and self._moves and text != self._shown:
            self._wipe()
            self._shown = text[: COLUMNS - 1]
            print(self._shown, end="\r", file=self._output, flush=True)

    def _wipe(self) -> None:
        if self._shown:
            print(" " * len(self._shown), end="\r", file=self._output)
            self._shown = ""
