from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_sdk._verdict import read as read_safely
from analytics_sdk.destinations.mixpanel import Mixpanel, answers
from analytics_sdk.destinations.mixpanel.profiles import ENGAGE, GROUPS, IMPORT, TRACK
from analytics_sdk.errors import Reason
from analytics_sdk.interfaces import (
    AllDelivered,
    Bisect,
    Delivered,
    Hold,
    HttpResponse,
    Part,
    Parts,
    Rejected,
    Retry,
    RetryBatch,
    Split,
)
from tests.strategies import plain_values

UPDATES = (ENGAGE, GROUPS, TRACK)
RETRY = RetryBatch(Reason.UNREADABLE, 7.0)
OK = b'{"code":200,"num_records_imported":3,"status":"OK"}'
ONE = b'{"status":1,"error":null}'
ZERO = b'{"status":0,"error":"bad $token"}'


def imported(*ids: str) -> list[Part]:
    return [
        Part(IMPORT, json.dumps({"properties": {"$insert_id": each}}).encode())
        for each in ids
    ]


def updates(*idempotent: bool) -> list[Part]:
    return [Part(ENGAGE, b"{}", idempotent=each) for each in idempotent]


THREE = imported("a", "b", "c")
MUTE = (b"", b"upstream connect error", b"<html>413</html>", b"\xff", b"[" * 60_000)
"""What gateways, proxies and broken lines say."""


def read(route, status, body=b"", parts=THREE, after_s=7.0, **headers):
    response = HttpResponse(status, headers, body, after_s)
    return Mixpanel("TOKEN").read(route, response, parts)


def shown(reading, *, words=False):
    """Return *reading* as text: as tuples, readings of two kinds may be equal.

    What the vendor said is left out, unless *words* are asked for.
    """
    if not words and hasattr(reading, "excerpt"):
        reading = reading._replace(excerpt="")
    return repr(reading)


def failures(*records, count=None, **members):
    said = {"code": 400, "status": "Bad Request", "failed_records": records, **members}
    if count is not None:
        said["num_records_imported"] = count
    return json.dumps(said).encode()


# -- statuses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reading"),
    [
        *((status, RETRY) for status in (0, 100, 199, 600, 999)),
        *((status, Hold(Reason.REDIRECTED, 7.0)) for status in (300, 301, 307, 399)),
        *((s, Hold(Reason.CONFIGURATION, 7.0)) for s in sorted(answers.CONFIGURATION)),
        (413, Split()),
        (429, RetryBatch(Reason.RATE_LIMITED, 7.0)),
        *((s, RetryBatch(Reason.SERVER_ERROR, 7.0)) for s in (408, 425)),
        *((s, RetryBatch(Reason.SERVER_ERROR, 7.0)) for s in (500, 502, 503, 504, 599)),
        *((status, Bisect()) for status in (400, 409, 418, 422, 499)),
        *((status, RETRY) for status in (200, 202, 204, 299)),
    ],
)
def test_statuses(status, reading):
    """A status means the same on every route, with any body that says nothing."""
    for route in (IMPORT, *UPDATES):
        for body in MUTE:
            assert shown(reading) == shown(read(route, status, body))


def test_every_answer_of_configuration_holds():
    """An unknown token, a wrong path and a proxy's demands cost no event."""
    assert {401, 403, 404, 407} <= answers.CONFIGURATION


@pytest.mark.parametrize(
    ("after_s", "pause_s"), [(None, 2.0), (0.5, 0.5), (30.0, 30.0)]
)
def test_rate_limit_has_a_pause(after_s, pause_s):
    """A 429 waits as long as it says, and the vendor's two seconds if it does not."""
    reading = read(IMPORT, 429, after_s=after_s)
    assert shown(RetryBatch(Reason.RATE_LIMITED, pause_s)) == shown(reading)


def test_redirect_names_its_target():
    """Where a redirect points is said, without what may be secret in it."""
    reading = read(IMPORT, 308, location="https://other.example/import?token=x#y")
    expected = Hold(Reason.REDIRECTED, 7.0, "https://other.example/import")
    assert shown(expected, words=True) == shown(reading, words=True)


def test_excerpts_hide_the_keys():
    """What the vendor says is cut, made printable, and the keys are blotted out."""
    destination = Mixpanel("TOKEN", service_account=("bot", "PASS"), project_id=1)
    body = b"TOKEN bot:PASS Ym90OlBBU1M= \n\x00\xc3\xbc " + b"x" * 500
    reading = destination.read(IMPORT, HttpResponse(401, {}, body), THREE)
    excerpt = reading.excerpt
    assert excerpt.startswith("*** ***:*** *** ??? xxx")
    assert answers.MAX_EXCERPT == len(excerpt)


# -- /import -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        (OK, AllDelivered()),
        (b'{"code":200,"status":"OK"}', AllDelivered()),
        (b'{"code":200,"num_records_imported":4,"status":"OK"}', AllDelivered()),
        (b'{"code":200,"num_records_imported":2,"status":"OK"}', Bisect()),
        (b'{"code":200,"num_records_imported":0,"status":"OK"}', Bisect()),
        (b'{"code":200,"num_records_imported":"3","status":"OK"}', Bisect()),
        (b'{"code":200,"num_records_imported":3,"status":"ok?"}', RETRY),
        (b'{"code":400,"num_records_imported":3,"status":"OK"}', RETRY),
        (ONE, RETRY),
        (b"1", RETRY),
        (b"{}", RETRY),
        (b'["OK"]', RETRY),
        (b'{"code":200,"status":"OK","failed_records":[1]}', Bisect()),
    ],
)
def test_import_success(body, reading):
    """Only a 200 that counts every event is a success; strict=0's answer is none."""
    assert shown(reading) == shown(read(IMPORT, 200, body))


GOOD = Delivered()
BAD = Rejected(Reason.INVALID, "properties.time: too old")
SAID = {"field": "properties.time", "message": "too old"}


@pytest.mark.parametrize(
    ("body", "results"),
    [
        (failures({"index": 1, **SAID}), [GOOD, BAD, GOOD]),
        (failures({"index": 1, **SAID}, count=2), [GOOD, BAD, GOOD]),
        (failures({"index": 1, "$insert_id": "b", **SAID}), [GOOD, BAD, GOOD]),
        (failures({"index": 1, "insert_id": "b", **SAID}), [GOOD, BAD, GOOD]),
        (failures({"index": 1, "insert_id": "", **SAID}), [GOOD, BAD, GOOD]),
        (failures({"insert_id": "c", **SAID}), [GOOD, GOOD, BAD]),
        (failures({"$insert_id": "c", **SAID}), [GOOD, GOOD, BAD]),
        (failures({"index": 0, **SAID}, {"insert_id": "c", **SAID}), [BAD, GOOD, BAD]),
        (failures(*({"index": each, **SAID} for each in range(3)), count=0), [BAD] * 3),
        (failures({"index": 2, **SAID}, {"index": 2, **SAID}), [GOOD, GOOD, BAD]),
        (failures({"index": 0}), [Rejected(Reason.INVALID), GOOD, GOOD]),
        (
            failures({"index": 0, "message": 7, "field": "f"}),
            [Rejected(Reason.INVALID, "f"), GOOD, GOOD],
        ),
        (
            failures({"index": 0, "message": "TOKEN ü"}),
            [Rejected(Reason.INVALID, "*** ?"), GOOD, GOOD],
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_failed_records(status, body, results):
    """The failed ones are rejected with Mixpanel's words, the others are delivered."""
    assert shown(Parts(tuple(results))) == shown(read(IMPORT, status, body))


@pytest.mark.parametrize(
    "body",
    [
        failures(),
        failures(failed_records={"index": 0}),
        failures({"index": 3, **SAID}),
        failures({"index": -1, **SAID}),
        failures({"index": 1.0, **SAID}),
        failures({"index": True, **SAID}),
        failures({"index": "1", "insert_id": "b"}),
        failures({"index": 0, "insert_id": "b", **SAID}),
        failures({"insert_id": "d", **SAID}),
        failures(SAID),
        failures("b"),
        failures({"index": 1, **SAID}, count=3),
        failures({"index": 1, **SAID}, count="2"),
        failures({"index": 1, **SAID}, {"index": 9}),
        b'{"error":"invalid JSON","status":0}',
    ],
)
def test_failures_that_do_not_fit_are_searched(body):
    """Where an answer does not fit its request nobody is judged by it."""
    assert shown(Bisect()) == shown(read(IMPORT, 400, body))


def test_ambiguous_id_is_searched():
    """An insert id that two events share says of neither that it failed."""
    parts = imported("a", "a")
    found = read(IMPORT, 400, failures({"insert_id": "a"}), parts)
    assert shown(Bisect()) == shown(found)
    by_index = read(
        IMPORT, 400, failures({"insert_id": "a", "index": 1, **SAID}), parts
    )
    assert shown(Parts((GOOD, BAD))) == shown(by_index)


# -- /engage, /groups, /track --------------------------------------------------


@pytest.mark.parametrize("route", UPDATES)
@pytest.mark.parametrize(
    ("body", "reading"),
    [
        (ONE, AllDelivered()),
        (b'{"status":1}', AllDelivered()),
        (b"1", AllDelivered()),
        (b" 1\n", AllDelivered()),
        (ZERO, Bisect()),
        (b"0", Bisect()),
        (b'{"status":1,"error":"some data was dropped"}', Bisect()),
        (b'{"status":true,"error":null}', RETRY),
        (b'{"status":"OK","error":null}', RETRY),
        (b"2", RETRY),
        (b"true", RETRY),
        (b"1.0", RETRY),
        (b'"1"', RETRY),
        (b"[1]", RETRY),
        (b"{}", RETRY),
        (OK, RETRY),
    ],
)
def test_update_answers(route, body, reading):
    """A 200 of these endpoints says nothing; the digit in its body does."""
    assert shown(reading) == shown(read(route, 200, body, updates(True, True)))


REFUSED = Rejected(Reason.MAYBE_SENT, '{"status":0,"error":"bad $token"}')
AGAIN = Retry(reason=Reason.INVALID)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("parts", "reading"),
    [
        (updates(True), Bisect()),
        (updates(False), Bisect()),
        (updates(True, True), Bisect()),
        (updates(True, False), Parts((AGAIN, REFUSED))),
        (updates(False, False), Parts((REFUSED, REFUSED))),
    ],
)
def test_sums_in_a_refused_request(status, parts, reading):
    """A sum among others may have been taken: it is not sent again, the others are."""
    assert shown(reading) == shown(read(ENGAGE, status, ZERO, parts))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_sums_behind_a_gateway(status):
    """A gateway that lost the answer makes sums uncertain, as a broken line does."""
    lost = status in answers.GATEWAY
    reason = Reason.UNREADABLE if lost else Reason.SERVER_ERROR
    assert reason is read(ENGAGE, status, parts=updates(True, False)).reason
    assert Reason.SERVER_ERROR is read(ENGAGE, status, parts=updates(True)).reason


def test_too_large_is_split_with_sums_too():
    """A request that was never read is sent again, sums and all."""
    assert shown(Split()) == shown(read(ENGAGE, 413, parts=updates(False, False)))


# -- any answer ----------------------------------------------------------------

RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-1, 4) | plain_values(),
            "$insert_id": st.sampled_from("abcd") | plain_values(),
            "insert_id": st.sampled_from("abcd") | plain_values(),
            "field": st.text(max_size=4) | plain_values(),
            "message": st.text(max_size=4) | plain_values(),
        },
    )
    | plain_values(),
    max_size=4,
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400]) | plain_values(),
        "status": st.sampled_from([0, 1, "OK"]) | plain_values(),
        "error": plain_values(),
        "num_records_imported": st.integers(0, 4) | plain_values(),
        "failed_records": RECORDS | plain_values(),
    },
)


class Sent:
    """An item of a request, as far as reading answers needs it."""

    def __init__(self, part: Part) -> None:
        self.part = part


@given(
    st.sampled_from([IMPORT, ENGAGE, GROUPS, TRACK]),
    st.integers(0, 999) | st.sampled_from([200, 400]),
    (ANSWERS | plain_values()).map(lambda each: json.dumps(each).encode())
    | st.binary(max_size=20),
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.none() | st.floats(),
)
@example(IMPORT, 400, b'{"failed_records":[{"index":0}]}', [True], None)
def test_any_answer_has_a_reading(route, status, body, repeatable, after_s):
    """Whatever is answered has a reading, with one result for each part at most."""
    parts = imported(*"abcd"[: len(repeatable)])
    if route != IMPORT:
        parts = updates(*repeatable)
    response = HttpResponse(status, {}, body, after_s)
    reading = Mixpanel("TOKEN").read(route, response, parts)
    items = [Sent(part) for part in parts]
    assert repr(reading) == repr(
        read_safely(Mixpanel("TOKEN"), route, response, items)  # type: ignore[arg-type]
    )
    if isinstance(reading, Parts):
        assert len(parts) == len(reading.results)
    if isinstance(reading, AllDelivered | Parts):
        assert 200 <= status < 300 or 400 <= status < 500
    if isinstance(reading, AllDelivered):
        assert 200 <= status < 300
