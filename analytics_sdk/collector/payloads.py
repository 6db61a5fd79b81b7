"""Turn a request's bytes into JSON, refusing whatever a strict server refuses."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import NoReturn

_GZIP_WINDOW = 31
_SPACE = re.compile(r"[ \t\n\r]*")


class PayloadError(Exception):
    """Say why a body was refused, in the words of an HTTP answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the *status* to answer, a *code* for programs and a *message*."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def decode_content(
    headers: Mapping[str, str], body: bytes, *, max_bytes: int, too_large_status: int
) -> bytes:
    """Undo the content encoding, never producing more than *max_bytes*.

    The bound is applied while inflating, so a small body that inflates a thousandfold
    costs no more than an honest one.

    Raises:
        PayloadError: the encoding is unknown, the data is damaged or too large.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        body = _inflate(body, max_bytes, too_large_status)
    elif encoding not in {"identity", ""}:
        raise PayloadError(415, "encoding", "Content-Encoding must be gzip or absent")
    if len(body) > max_bytes:
        raise _too_large(max_bytes, too_large_status)
    return body


def parse_json(data: bytes) -> object:
    """Parse *data* as RFC 8259 JSON in UTF-8; NaN and Infinity are not JSON.

    Raises:
        PayloadError: with status 400.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PayloadError(400, "invalid_json", "body is not UTF-8") from error
    except RecursionError as error:
        raise PayloadError(400, "invalid_json", "body nests too deeply") from error
    except ValueError as error:
        raise PayloadError(400, "invalid_json", "body is not valid JSON") from error


def measure_items(data: bytes, field: str | None = None) -> list[int]:
    """Return the size in bytes of each item of a list inside valid JSON *data*.

    Vendors bound an event by what travelled, not by what it would be after parsing and
    writing it again, so the sizes are taken from the text itself. *data* must already
    have passed `parse_json`.

    Args:
        data: a JSON object, or with *field* left out, a JSON list.
        field: the top-level field that holds the list; None means *data* is the list.
    """
    text = data.decode("utf-8")
    if field is None:
        return _measure_list(text, _skip(text, 0))[0]
    sizes: list[int] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        if key == field and text[at] == "[":
            # A repeated key replaces the earlier one, exactly as the parser does it.
            sizes, at = _measure_list(text, at)
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _next(text, at)
    return sizes


def _measure_list(text: str, at: int) -> tuple[list[int], int]:
    sizes = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        sizes.append(len(text[at:end].encode("utf-8")))
        at = _next(text, end)
    return sizes, at + 1


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _inflate(body: bytes, max_bytes: int, too_large_status: int) -> bytes:
    pieces: list[bytes] = []
    room = max_bytes
    while True:
        inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            piece = inflater.decompress(body, room + 1)
        except zlib.error as error:
            raise PayloadError(400, "invalid_gzip", "body is not gzip") from error
        room -= len(piece)
        if room < 0:
            raise _too_large(max_bytes, too_large_status)
        if not inflater.eof:
            raise PayloadError(400, "invalid_gzip", "gzip body is cut short")
        pieces.append(piece)
        body = inflater.unused_data
        if not body:
            return b"".join(pieces)


def _too_large(max_bytes: int, status: int) -> PayloadError:
    return PayloadError(
        status, "request_too_large", f"body is over {max_bytes} bytes when decoded"
    )


def _refuse_constant(_name: str) -> NoReturn:
    message = "NaN and Infinity are not JSON"
    raise ValueError(message)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
