from __future__ import annotations

import json
import logging
import pickle
import sys
import traceback

import pytest

from analytics_sdk import Client, ConfigError, Delivery, RefusedError, Segment
from analytics_sdk.collector import Collector, Step, faults

pytestmark = pytest.mark.timeout(20)

KEY = "canary-write-key-9023"
PERSON = "canary.person@example.com"
CANARIES = (KEY, PERSON, "canary")

STORIES = {
    "healthy": (),
    "refused": (Step(faults.Status(400, body=f'{{"{PERSON}": "{KEY}"}}'.encode())),),
    "unauthorised": (Step(faults.Status(401, body=KEY.encode())),),
    "down": (Step(faults.Drop("before_body")),),
    "garbage": (Step(faults.Garbage()),),
    "redirect": (),
}


def clean(text):
    assert not [each for each in CANARIES if each in text], text


def act(client):
    """Do what an application does, with canaries everywhere."""
    person = {"email": PERSON, PERSON: [KEY, object(), float("nan")]}
    receipts = [
        client.identify(PERSON, person, context={"ip": PERSON}),
        client.track(PERSON, f"Paid {PERSON}", person, integrations=PERSON),
        client.track(PERSON, 7, person),  # type: ignore[arg-type]
        client.track({PERSON: KEY}, PERSON),  # type: ignore[dict-item]
        client.track(PERSON, "Paid", person, message_id=f"{PERSON}\n"),
        client.track(PERSON, "Paid", [PERSON]),  # type: ignore[arg-type]
        client.track(PERSON, "Paid", {"big": PERSON * 100_000}),
        client.alias(PERSON, KEY),
    ]
    return receipts, client.flush(0.4)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("driver", ["threads", "inline"])
def test_nothing_is_told(caplog, capfd, story, driver):
    """Logs at DEBUG, reprs, reports, stats and streams hold no key and no person."""
    caplog.set_level(logging.DEBUG)
    said = []
    with Collector() as collector, Collector("generic") as other:
        location = (("Location", f"{other.url}/steal"),)
        steps = STORIES[story]
        if story == "redirect":
            steps = (Step(faults.Status(307, headers=location)),)
        collector.play(*steps)
        client = Client(
            Segment(KEY, host=collector.url),
            delivery=Delivery(driver=driver, report="all", linger_s=60),
            on_outcome=lambda settled: said.append(repr(settled)),
            context={"app": {"token": KEY}},
        )
        receipts, report = act(client)
        said += map(repr, [client, report, client.stats(), client._intake.home])
        said += map(repr, [*receipts, *(each.outcome for each in receipts)])
        said += [repr(each.by_destination) for each in receipts]
        said += [repr(client.close(0.2)), repr(client.stats()), str(client)]
        assert [] == other.requests
        if story == "healthy":
            assert collector.events
    clean(caplog.text)
    clean("".join(capfd.readouterr()))
    excerpts = [repr(each.outcome.excerpt) for each in receipts if each.outcome]
    for text in said:
        clean(without(text, excerpts) if story in VENDOR_SPEAKS else text)


VENDOR_SPEAKS = {"refused"}
"""Stories in which the vendor's answer, which an outcome quotes, holds canaries."""


def without(text, excerpts):
    for excerpt in sorted(excerpts, key=len, reverse=True):
        text = text.replace(excerpt, "''")
    return text


def test_objects_hide_keys():
    """Destinations and settings hide keys in their reprs, whatever holds them."""
    segment = Segment(KEY, host="http://localhost:1")
    client = Client(segment, context={"email": PERSON})
    clean(
        f"{segment!r} {segment!s} {client!r} {[segment, client]} {client._delivery!r}"
    )
    clean(repr(vars(client)))
    clean(repr(client._intake._make_home))


def test_refusals_hide_values():
    """What a strict client raises names fields and types, never values."""
    strict = Client(Segment(KEY), strict=True)
    for given in (
        {"user_id": {PERSON: KEY}, "event": "Paid"},
        {"user_id": PERSON, "event": [PERSON]},
        {"user_id": PERSON, "event": "Paid", "properties": PERSON},
        {"user_id": PERSON, "event": "Paid", "timestamp": PERSON},
        {"user_id": PERSON, "event": "Paid", "message_id": f"{PERSON}\0"},
        {"user_id": PERSON, "event": "Paid", "context": KEY},
    ):
        with pytest.raises(RefusedError) as caught:
            strict.track(**given)
        clean(f"{caught.value!r} {caught.value}")
        clean(repr(caught.value.__cause__))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Segment(f"{KEY} {PERSON}"),
        lambda: Segment([KEY]),  # type: ignore[arg-type]
        lambda: Segment(KEY, host=f"http://{KEY}:{PERSON}@example.com"),
        lambda: Segment(KEY, region=PERSON),
        lambda: Client(KEY),  # type: ignore[arg-type]
        lambda: Client(Segment(KEY), Segment(KEY)),
        lambda: Client(Segment(KEY), context=PERSON),  # type: ignore[arg-type]
        lambda: Delivery(proxies=f"http://{PERSON}:{KEY}@proxy"),  # type: ignore[arg-type]
    ],
    ids=["key", "type", "host", "region", "client", "twice", "context", "proxies"],
)
def test_configuration_errors_hide_values(make):
    """A setting that is wrong is named by its field and type."""
    with pytest.raises((ConfigError, TypeError)) as caught:
        make()
    clean(f"{caught.value!r} {caught.value}")
    shown = traceback.TracebackException.from_exception(
        caught.value.__cause__ or caught.value
    )
    clean("".join(shown.format_exception_only()))


def test_tracebacks_with_locals(collector):
    """A traceback that shows locals, as error trackers do, shows no key."""

    def plugin(event):
        raise ZeroDivisionError

    client = Client(Segment(KEY, host=collector.url), plugins=[plugin])
    client.track("u", "Paid")
    segment = client._destinations[0]
    try:
        raise KeyError  # noqa: TRY301 - what an application does around its client
    except KeyError:
        shown = traceback.TracebackException(*sys.exc_info(), capture_locals=True)
    clean("".join(shown.format()).replace(repr(CANARIES), ""))
    del segment
    client.close()


def test_pickles_are_refused(collector):
    """Neither a client nor what leads to it can be written out with its keys."""
    client = Client(Segment(KEY, host=collector.url))
    receipt = client.track(PERSON, "Paid", {"email": PERSON})
    for thing in (client, receipt, client._destinations[0]):
        try:
            written = pickle.dumps(thing)
        except Exception as error:  # noqa: BLE001 - any refusal will do
            clean(f"{error!r}")
        else:
            clean(written.decode("latin-1"))
    client.close()


def test_stats_are_plain(collector):
    """Stats can be written out as JSON, and hold neither names nor keys of people."""
    client = Client(Segment(KEY, host=collector.url))
    act(client)
    stats = client.stats()
    clean(json.dumps({name: repr(getattr(stats, name)) for name in dir(stats)}))
    client.close()


@pytest.mark.slow
def test_failing_assertion_shows_no_key(run):
    """pytest, when it explains a failed assertion on a client, shows no key."""
    ran = run(
        """
import pytest, pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
test = folder / "test_it.py"
test.write_text('''
from analytics_sdk import Client, Segment
import os
KEY = os.environ["CANARY"]
def test_it():
    client = Client(Segment(KEY))
    receipt = client.track(None, "Paid", {"email": os.environ["PERSON"]})
    assert (client, receipt, client._destinations, receipt.outcome) == 1
''')
options = ["-q", "-l", "-p", "no:cacheprovider", "--rootdir", str(folder)]
code = pytest.main([*options, str(test)])
assert code == 1
""",
        CANARY=KEY,
        PERSON=PERSON,
    )
    assert "1 failed" in ran.out
    clean(ran.out + ran.err)
