"""Act out faults on a connection."""

from __future__ import annotations

import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, singledispatch

from analytics_sdk.collector import faults
from analytics_sdk.collector.vendor_api import ApiAnswer
from analytics_sdk.collector.wire import Connection, render

_PIECE_BYTES = 64 * 1024
_JSON_HEADER = ("Content-Type", "application/json")
_SUCCESS_START = b'{"success": true, "padding": "'
_SUCCESS_END = b'"}'


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold what a fault needs: the connection and the answer that would have been.

    *stop* is set when the collector is closed, and ends every wait.
    """

    connection: Connection
    answer: ApiAnswer
    keep_alive: bool
    stop: threading.Event

    def rendered(self) -> tuple[bytes, bytes]:
        """Return the head and the body of the vendor's own answer."""
        answer = self.answer
        return render(
            answer.status, answer.headers, answer.body, keep_alive=self.keep_alive
        )

    def send_answer(self) -> None:
        """Send the vendor's own answer at once."""
        self.connection.send(b"".join(self.rendered()))

    def end(self, *, reset: bool) -> None:
        """End the connection in one of the two ways."""
        if reset:
            self.connection.reset()
        else:
            self.connection.close()


@singledispatch
def act_out(fault: faults.Fault, _stage: Stage) -> bool:
    """Do what *fault* says; return whether the connection lives on.

    Raises:
        OSError: the client went away first, which every fault must expect.
    """
    message = f"nobody knows how to act out {type(fault).__name__}"
    raise TypeError(message)


@act_out.register
def _healthy(fault: faults.Healthy, stage: Stage) -> bool:
    stage.stop.wait(fault.delay_s)
    stage.send_answer()
    return stage.keep_alive


@act_out.register
def _status(fault: faults.Status, stage: Stage) -> bool:
    now = time.time() + fault.clock_skew_s
    headers = fault.headers
    if fault.retry_after_date_s is not None:
        until = formatdate(now + fault.retry_after_date_s, usegmt=True)
        headers = (*headers, ("Retry-After", until))
    head, body = render(
        fault.status, headers, fault.body, keep_alive=stage.keep_alive, now=now
    )
    stage.connection.send(head + body)
    return stage.keep_alive


@act_out.register
def _drop(fault: faults.Drop, stage: Stage) -> bool:
    head, body = stage.rendered()
    if fault.at == "mid_head":
        stage.connection.send(head[: len(head) // 2])
    elif fault.at == "mid_body":
        stage.connection.send(head + body[: len(body) // 2])
    stage.end(reset=fault.reset)
    return False


@act_out.register
def _hang(fault: faults.Hang, stage: Stage) -> bool:
    stage.stop.wait(fault.for_s)
    stage.end(reset=False)
    return False


@act_out.register
def _slow(fault: faults.Slow, stage: Stage) -> bool:
    for part, data in zip(("head", "body"), stage.rendered(), strict=True):
        if fault.part not in {part, "both"}:
            stage.connection.send(data)
            continue
        for at in range(len(data)):
            if stage.stop.wait(fault.pause_s):
                return False
            stage.connection.send(data[at : at + 1])
    return stage.keep_alive


@act_out.register
def _garbage(fault: faults.Garbage, stage: Stage) -> bool:
    stage.connection.send(fault.data)
    stage.end(reset=False)
    return False


@act_out.register
def _broken_chunks(fault: faults.BrokenChunks, stage: Stage) -> bool:
    headers = (_JSON_HEADER, ("Transfer-Encoding", "chunked"))
    head, _ = render(200, headers, keep_alive=stage.keep_alive, framed=False)
    body = stage.answer.body
    size = b"%x" % len(body) if fault.how == "cut" else b"oops"
    stage.connection.send(head + size + b"\r\n" + body + b"\r\n")
    stage.end(reset=False)
    return False


@act_out.register
def _endless(fault: faults.Endless, stage: Stage) -> bool:
    head, _ = render(200, (_JSON_HEADER,), keep_alive=False, framed=False)
    stage.connection.send(head + _SUCCESS_START)
    piece, left = b"x" * _PIECE_BYTES, fault.limit_bytes
    while left > 0 and not stage.stop.is_set():
        stage.connection.send(piece[:left])
        left -= len(piece)
    stage.end(reset=False)
    return False


@act_out.register
def _gzip_bomb(fault: faults.GzipBomb, stage: Stage) -> bool:
    headers = (_JSON_HEADER, ("Content-Encoding", "gzip"))
    head, body = render(
        200, headers, _bomb(fault.expanded_bytes), keep_alive=stage.keep_alive
    )
    stage.connection.send(head + body)
    return stage.keep_alive


@act_out.register
def _huge_header(fault: faults.HugeHeader, stage: Stage) -> bool:
    head, body = stage.rendered()
    status_line, rest = head.split(b"\r\n", 1)
    padding = b"".join(
        b"X-Padding-%d: %s\r\n" % (number, b"x" * fault.line_bytes)
        for number in range(fault.lines)
    )
    stage.connection.send(status_line + b"\r\n" + padding + rest + body)
    return stage.keep_alive


@act_out.register
def _half_close(fault: faults.HalfClose, stage: Stage) -> bool:
    stage.connection.shut_sending()
    stage.stop.wait(fault.for_s)
    stage.end(reset=False)
    return False


@act_out.register
def _early_answer(fault: faults.EarlyAnswer, stage: Stage) -> bool:
    stage.connection.read_some(fault.read_bytes)
    head, body = render(fault.status, (), fault.body, keep_alive=False)
    stage.connection.send(head + body)
    stage.stop.wait(fault.grace_s)
    stage.end(reset=fault.reset)
    return False


@act_out.register
def _idle_close(fault: faults.IdleClose, stage: Stage) -> bool:
    stage.send_answer()
    if stage.connection.wait_readable(fault.after_s):
        return stage.keep_alive
    with suppress(OSError):
        stage.end(reset=fault.reset)
    return False


@lru_cache(maxsize=2)
def _bomb(expanded_bytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(_SUCCESS_START)]
    filler, left = b"0" * _PIECE_BYTES, expanded_bytes
    while left > 0:
        pieces.append(packer.compress(filler[:left]))
        left -= len(filler)
    pieces += [packer.compress(_SUCCESS_END), packer.flush()]
    return b"".join(pieces)
