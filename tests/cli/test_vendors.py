"""How the demo reads each vendor's records, and what it calls a problem."""

from __future__ import annotations

from decimal import Decimal

import pytest

from analytics_sdk.cli import VENDORS as WORDS
from analytics_sdk.cli.purchases import ORDER, Arrived
from analytics_sdk.cli.vendors import (
    VENDORS,
    bad_day,
    misreceived,
    overmet,
    read_amplitude,
    read_mixpanel,
    read_segment,
    resold,
    unmet,
)

ALL_MET = {"200": 9, "400": 1, "401": 1, "429": 1, "503": 1, "none": 1}
PRICE = Decimal("29.33")
DAY_MS = 852_076_800_000


def test_every_vendor_of_the_command_line_is_known():
    """What `--only` offers can be connected."""
    assert list(WORDS) == list(VENDORS)


def test_segment_knows_an_event_by_its_message_id():
    """A purchase at Segment counts by its message id, day, discs and dollars."""
    record = read_segment(
        {
            "type": "track",
            "event": ORDER,
            "messageId": "m",
            "userId": "u",
            "timestamp": "1997-01-01T00:00:00.000Z",
            "properties": {"revenue": PRICE, "quantity": 2},
        }
    )
    assert record == Arrived(
        ("m",), "m", "u", orders=True, day="1997-01-01", discs=2, dollars=PRICE
    )
    assert read_segment({"type": "identify"}).introduces


@pytest.mark.parametrize(
    ("device", "key"), [({}, ("u", "m")), ({"device_id": "d"}, ("d", "m"))]
)
def test_amplitude_knows_an_event_by_device_or_user(device, key):
    """A purchase at Amplitude counts by its device, else its user, and insert id."""
    record = read_amplitude(
        {
            "event_type": ORDER,
            "insert_id": "m",
            "user_id": "u",
            "time": DAY_MS,
            "revenue": PRICE,
            "event_properties": {"quantity": 2},
            **device,
        }
    )
    assert record == Arrived(
        key, "m", "u", orders=True, day="1997-01-01", discs=2, dollars=PRICE
    )
    assert read_amplitude({"event_type": "$identify"}).introduces


def test_mixpanel_knows_an_event_by_four_things():
    """A purchase at Mixpanel counts by its name, user, time and insert id."""
    properties = {
        "$insert_id": "m",
        "distinct_id": "u",
        "time": DAY_MS,
        "revenue": PRICE,
        "quantity": 2,
    }
    record = read_mixpanel({"event": ORDER, "properties": properties})
    assert record == Arrived(
        (ORDER, "u", DAY_MS, "m"),
        "m",
        "u",
        orders=True,
        day="1997-01-01",
        discs=2,
        dollars=PRICE,
        route="import",
    )


def test_mixpanel_profile_stands_for_the_identify():
    """The update of a profile has neither id nor day: it counts by its user."""
    update = {"$token": "t", "$distinct_id": "0001", "$set": {"cohort": "1997-01"}}
    record = read_mixpanel(update)
    assert ("cdnow-customer-0001", "0001") == (record.id, record.user)
    assert (True, "", "engage") == (record.introduces, record.day, record.route)
    assert record.key == read_mixpanel(dict(update)).key
    assert record.key != read_mixpanel({**update, "$ip": "0"}).key


def test_time_that_is_no_number_is_no_day():
    """A record without a time has no day, and is not crashed on."""
    assert "" == read_amplitude({"event_type": ORDER, "time": "1997"}).day


@pytest.mark.parametrize("word", VENDORS)
def test_rough_day_is_a_rough_day(word):
    """A run that met every fault proves what it says."""
    meets = VENDORS[word].meets
    readings = {(status, f"it was {said} so"): 1 for status, said in meets}
    assert [] == list(unmet(ALL_MET, 1, readings, meets))


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("400", "fault 400 was never met"),
        ("401", "fault 401 was never met"),
        ("429", "fault 429 was never met"),
        ("503", "fault 503 was never met"),
        ("none", "no connection was dropped"),
    ],
)
def test_unmet_fault_is_a_problem(missing, problem):
    """A rough day on which a fault did not happen proves nothing about that fault."""
    met = {status: count for status, count in ALL_MET.items() if status != missing}
    assert [problem] == list(unmet(met, 1, {}, {}))


@pytest.mark.parametrize("word", VENDORS)
def test_unmet_meaning_is_a_problem(word):
    """So it is with a web page under status 200, and each vendor's own words."""
    meets = VENDORS[word].meets
    readings = {(418, f"it was {said} so"): 1 for _, said in meets}
    assert list(meets.values()) == list(unmet(ALL_MET, 1, readings, meets))


def test_pause_that_is_not_kept_is_a_problem():
    """More refusals than users that send too fast: one of them was not left alone."""
    most = VENDORS["amplitude"].most
    problem = "fault 429 was met over 3 times: a pause was not kept"
    assert [] == list(overmet({"429": 3}, most))
    assert [problem] == list(overmet({"429": 4}, most))


def test_day_without_a_copy_is_a_problem():
    """Nothing is proved about copies where no answer of a kept request was lost."""
    problem = "no request was kept whose answer was lost"
    assert [problem] == list(unmet(ALL_MET, 0, {}, {}))


def test_what_a_collector_throws_away_is_a_problem():
    """Events that the vendor discards, and changed copies, are told."""
    stats = {
        "rejected_by_reason": {"no_event_name": 3, "too deep": 1},
        "changed_duplicates": 2,
    }
    assert [
        "the collector threw 3 events away: no_event_name",
        "2 duplicates differ from the event they repeat",
    ] == list(misreceived(stats, "too deep"))
    assert 3 == len(list(misreceived(stats)))


def test_segment_is_told_who_has_the_event():
    """Only false forbids Segment to send an event on; silence and true do not."""
    told = {"integrations": {"Amplitude": False}}
    events = [told, {"integrations": {"Amplitude": True}}, {}]
    assert [] == list(resold([told], ["Amplitude"]))
    assert [
        "2 events let Segment send a second copy to Amplitude",
        "3 events let Segment send a second copy to Mixpanel",
    ] == list(resold(events, ["Amplitude", "Mixpanel"]))


def test_bad_days_are_scaled():
    """Faults last as long as asked; Amplitude announces only a pause that is cut."""
    assert {"unavailable_s": 4.0, "unauthorized_s": 20.0, "drops": 1} == bad_day(
        "mixpanel_day", 2.0, []
    )
    assert 2 == bad_day("rough_day", 1.0, [])["calm_requests"]
    usual = bad_day("amplitude_day", 1.0, ["u"])
    assert (["u"], 30.0, None) == tuple(
        usual[name] for name in ("throttled", "park_s", "retry_after_s")
    )
    assert 30.0 == bad_day("amplitude_day", 2.0, ["u"])["park_s"]
    cut = bad_day("amplitude_day", 0.15, ["u"])
    assert (4.5, 5) == (cut["park_s"], cut["retry_after_s"])
