"""Appending to files and to standard output."""

from __future__ import annotations

import io
import os
import resource
import signal
import stat
import sys
from pathlib import Path

import pytest

from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import HttpResponse, TransportError, WriteRequest


def write(transport, path: Path | None, body: bytes) -> HttpResponse | TransportError:
    """Append *body* to the file at *path*."""
    return transport.send(WriteRequest(None if path is None else str(path), body))


def check_failed(answer, maybe_sent, words) -> None:
    """Compare a failure; its message must name no path."""
    assert isinstance(answer, TransportError)
    assert (Reason.UNREACHABLE, maybe_sent) == (answer.reason, answer.maybe_sent)
    assert words in answer.message
    assert "/" not in answer.message


def test_bodies_are_appended(make, tmp_path):
    """Each body follows the one before, in a file that only its owner can read."""
    path, transport = tmp_path / "events", make()
    for body in (b"one\n", b"two\n"):
        assert HttpResponse(200) == write(transport, path, body)
    assert b"one\ntwo\n" == path.read_bytes()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_file_stays_open_between_writes(make, tmp_path, monkeypatch):
    """The file is opened once, and the descriptor does not reach child programs."""
    opened = []
    really = os.open

    def note(*args):
        opened.append(really(*args))
        return opened[-1]

    monkeypatch.setattr(os, "open", note)
    transport = make()
    for _ in range(3):
        write(transport, tmp_path / "events", b"x\n")
    (descriptor,) = opened
    assert not os.get_inheritable(descriptor)
    transport.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_rotation_is_followed(make, tmp_path, how):
    """When the file is moved away, the next body goes to a new one of its name."""
    path, transport = tmp_path / "events", make()
    write(transport, path, b"old\n")
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "events.1")
    if how == "replaced":
        path.write_bytes(b"first\n")
    write(transport, path, b"new\n")
    expected = b"first\nnew\n" if how == "replaced" else b"new\n"
    assert expected == path.read_bytes()
    if how != "removed":
        assert b"old\n" == (tmp_path / "events.1").read_bytes()


def test_link_is_not_followed(make, tmp_path):
    """A link in the file's place does not make us write to somebody else's file."""
    target, path = tmp_path / "target", tmp_path / "events"
    target.write_bytes(b"")
    path.symlink_to(target)
    check_failed(write(make(), path, b"x\n"), False, "ELOOP")
    assert b"" == target.read_bytes()


def test_pipe_without_a_reader_does_not_block(make, tmp_path):
    """A named pipe that nobody reads is a failure, not a wait."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    check_failed(write(make(), path, b"x\n"), False, "ENXIO")


def test_missing_folder_mends_itself(make, tmp_path):
    """A failure is reported; the next write tries to open the file again."""
    path, transport = tmp_path / "folder" / "events", make()
    check_failed(write(transport, path, b"x\n"), False, "ENOENT")
    path.parent.mkdir()
    assert HttpResponse(200) == write(transport, path, b"x\n")


def test_torn_line_does_not_spoil_the_next(make, tmp_path):
    """What a full disk cut short ends its line before the next body begins."""
    path, transport = tmp_path / "events", make()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        write(transport, path, b"good\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
        check_failed(write(transport, path, b"torn line\n"), True, "EFBIG")
        check_failed(write(transport, path, b"nothing\n"), False, "EFBIG")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert HttpResponse(200) == write(transport, path, b"torn line\n")
    assert b"good\ntor\ntorn line\n" == path.read_bytes()


def test_standard_output_comes_after_what_was_printed(make, monkeypatch):
    """The application's own pending text is not overtaken."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, write_through=False)
    monkeypatch.setattr(sys, "stdout", stream)
    stream.write("printed\n")
    assert HttpResponse(200) == write(make(), None, b"ours\n")
    assert b"printed\nours\n" == raw.getvalue()


def test_standard_output_may_know_only_text(make, monkeypatch):
    """A notebook's standard output has no buffer beneath."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert HttpResponse(200) == write(make(), None, "naïve\n".encode())
    assert "naïve\n" == stream.getvalue()


@pytest.mark.parametrize("closed", [True, False])
def test_missing_standard_output_is_a_failure(make, monkeypatch, closed):
    """A daemon's standard output may be closed, or not be there at all."""
    stream = io.StringIO() if closed else None
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    check_failed(write(make(), None, b"ours\n"), False, "no standard output")


def test_standard_output_that_breaks_may_have_been_sent(make, monkeypatch):
    """Nobody can tell how much a broken pipe had carried on."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "w", buffering=1)  # noqa: SIM115, PTH123
    monkeypatch.setattr(sys, "stdout", stream)
    check_failed(write(make(), None, b"ours\n"), True, "EPIPE")
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    stream.close()
