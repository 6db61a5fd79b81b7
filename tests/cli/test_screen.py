from __future__ import annotations

import io

from analytics_sdk.cli.screen import COLUMNS, Screen


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_shows_progress_in_place():
    """On a terminal a progress line is replaced by the next, and by what stays."""
    terminal = Terminal()
    screen = Screen(terminal)
    screen.progress("half")
    screen.progress("half")
    screen.progress("all")
    screen.line("done")
    assert "half\r    \rall\r   \rdone\n" == terminal.getvalue()


def test_progress_never_wraps():
    """A progress line is cut before the edge: a wrapped one could not be replaced."""
    terminal = Terminal()
    Screen(terminal).progress("x" * 200)
    assert "x" * (COLUMNS - 1) + "\r" == terminal.getvalue()


def test_file_gets_plain_lines():
    """Where the output is no terminal, only the lines that stay are written."""
    file = io.StringIO()
    screen = Screen(file)
    screen.progress("half")
    screen.line("done")
    screen.line()
    assert "done\n\n" == file.getvalue()


def test_silent_screen_writes_nothing(capsys):
    """Without an output nothing is written anywhere."""
    screen = Screen(None)
    screen.progress("half")
    screen.line("done")
    assert ("", "") == tuple(capsys.readouterr())
