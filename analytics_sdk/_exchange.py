"""The account of one request on the wire, and what its failure means.

What a failure means is read from how far the request came, and not guessed from the
exception's type: whether bytes were sent, whether any were received, and on what kind
of connection.  The table of all cases heads `analytics_sdk._transport`.

Imported with the first upload, because importing requests is expensive.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from enum import Enum
from http.client import HTTPConnection, HTTPException

from requests import RequestException

from analytics_sdk import _clock
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import TransportError

ANSWER_BYTES = 256 * 1024
"""Headers and body of one answer on the wire; a flood of either ends here."""

_SEND_SHARE = 0.9
_CERTIFICATE_OF_ANOTHER_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_…


class Stage(Enum):
    """How far an exchange has come."""

    START = "on a connection that was kept, or before everything"
    LOOKUP = "looking up the host name"
    CONNECT = "connecting, to the proxy where there is one"
    TRUST = "reading the certificate authorities"
    TLS = "in the TLS handshake"
    FRESH = "on a connection of its own"


class AnswerTooLongError(HTTPException):
    """More came than any answer of a vendor needs."""


class Exchange:
    """The account of the one request that a sender has in flight.

    Owned by one thread, like all that refers to it: there is no lock.

    Attributes:
        stage: How far it has come.
        sent: Bytes of the request handed to the kernel.
        received: Bytes of the answer taken from it.
        cut: The request was not sent whole; its connection must not be used again.
        open: The connections that have been made and may still be open.
    """

    __slots__ = (
        "_connect_timeout_s",
        "_deadline_s",
        "_limit_s",
        "_send_limit_s",
        "cut",
        "open",
        "received",
        "sent",
        "stage",
    )

    def __init__(self, connect_timeout_s: float) -> None:
        """Bound all connecting by *connect_timeout_s*, TLS and proxy included."""
        self._connect_timeout_s = connect_timeout_s
        self.open: list[HTTPConnection] = []
        self.begin(0.0)

    def begin(self, deadline_s: float) -> None:
        """Open the account of a request that must be over at *deadline_s*."""
        now_s = _clock.monotonic()
        self._deadline_s = self._limit_s = deadline_s
        self._send_limit_s = now_s + (deadline_s - now_s) * _SEND_SHARE
        self.stage = Stage.START
        self.sent = self.received = 0
        self.cut = False

    @property
    def stale(self) -> bool:
        """Whether a kept connection died before anything was heard on it."""
        in_time = _clock.monotonic() < self._send_limit_s
        return self.stage is Stage.START and not self.received and in_time

    def let_go(self) -> None:
        """In a forked child: close the connections' descriptors, and nothing else."""
        for connection in self.open:
            if connection.sock is not None:
                os.close(connection.sock.detach())

    def connecting(self) -> None:
        """Bound what follows by the time for connecting."""
        limit_s = _clock.monotonic() + self._connect_timeout_s
        self._limit_s = min(limit_s, self._deadline_s)

    def connected(self) -> None:
        """Start to count what belongs to the request itself."""
        self._limit_s = self._deadline_s
        self.stage = Stage.FRESH
        self.sent = self.received = 0

    def left_s(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: None are left.
        """
        return _until(self._limit_s)

    def left_to_send_s(self) -> float:
        """Return the seconds left for sending; a tenth is kept for an early answer.

        Raises:
            TimeoutError: None are left.
        """
        return _until(min(self._send_limit_s, self._limit_s))

    def took(self, count: int) -> int:
        """Count *count* received bytes.

        Raises:
            AnswerTooLongError: That is more than an answer may have.
        """
        self.received += count
        if self.received > ANSWER_BYTES:
            raise AnswerTooLongError
        return count


def _until(limit_s: float) -> float:
    left_s = limit_s - _clock.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def failure(exchange: Exchange, error: Exception) -> TransportError:
    """Say what *error* means for the request that *exchange* accounts for."""
    stage = exchange.stage
    cause = _cause(error)
    if stage is Stage.TRUST:
        message = "the bundle of certificate authorities cannot be read"
        return TransportError(Reason.TLS, maybe_sent=False, message=message)
    maybe_sent = stage in (Stage.START, Stage.FRESH) and exchange.sent > 0
    if isinstance(cause, ssl.SSLError) and not isinstance(
        cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    ):
        return TransportError(Reason.TLS, maybe_sent, f"TLS failed: {_tls(cause)}")
    if isinstance(cause, OSError):
        message = f"{_what(cause)} while {_DOING.get(stage, 'waiting for the answer')}"
        return TransportError(Reason.UNREACHABLE, maybe_sent, message)
    if cause is not None:
        message = f"the answer is not whole or not HTTP ({type(cause).__name__})"
        return TransportError(Reason.UNREADABLE, maybe_sent, message)
    if stage is Stage.START and not maybe_sent and isinstance(error, ValueError):
        message = f"the address is unusable ({type(error).__name__})"
        return TransportError(Reason.CONFIGURATION, maybe_sent=False, message=message)
    message = f"unexpected {type(error).__name__}"
    return TransportError(Reason.BUG, maybe_sent=True, message=message)


_DOING = {
    Stage.LOOKUP: "looking up the host",
    Stage.CONNECT: "connecting",
    Stage.TLS: "shaking hands for TLS",
}


def _cause(error: BaseException | None) -> OSError | HTTPException | None:
    """Return the system's or the protocol's own error that lies beneath *error*."""
    while error is not None:
        if isinstance(error, (OSError, HTTPException)) and not isinstance(
            error, RequestException
        ):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls(error: ssl.SSLError) -> str:
    """Name what went wrong in words that hold no address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _CERTIFICATE_OF_ANOTHER_HOST:
            return "the certificate is for another host"
        return str(error.verify_message)
    return error.reason or type(error).__name__


def _what(error: OSError) -> str:
    """Name what went wrong in words that hold no address."""
    if isinstance(error, TimeoutError):
        return "time ran out"
    if isinstance(error, socket.gaierror):
        return "no address found"
    if type(error) is OSError and error.errno is None:
        return "the proxy refused"  # http.client: its answer to CONNECT was no 200
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"the connection failed ({name})"
