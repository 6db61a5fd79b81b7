from __future__ import annotations

import json
from typing import get_args

import pytest

from analytics_sdk.collector.faults import Fault, Hang, Slow, Status
from analytics_sdk.collector.presets import PRESETS
from analytics_sdk.collector.script import (
    LargerThan,
    Matching,
    OnPath,
    Reused,
    Script,
    Step,
    WithEvent,
)
from analytics_sdk.collector.script_json import script_from_json, script_to_json

ARGUMENTS = {"Status": (503,), "Drop": ("after_body",)}


def build(kind):
    return kind(*ARGUMENTS.get(kind.__name__, ()))


def there_and_back(script):
    return script_from_json(json.loads(json.dumps(script_to_json(script))))


@pytest.mark.parametrize("kind", get_args(Fault), ids=lambda kind: kind.__name__)
def test_every_fault_survives_json(kind):
    """Every kind of fault can be written as JSON and read back the same."""
    script = Script((Step(build(kind)),))
    assert script == there_and_back(script)


@pytest.mark.parametrize(
    "step",
    [
        Step(Status(429, (("Retry-After", "1"),), b"\xff\x00{}"), requests=2),
        Step(Status(429, retry_after_date_s=2, clock_skew_s=-5.5), for_s=1.5),
        Step(Hang("accept"), requests=1),
        Step(Status(400), only=WithEvent("properties.poison", value=True)),
        Step(Status(400), only=WithEvent("messageId", "m")),
        Step(Status(400), only=WithEvent("messageId", None)),
        Step(Status(413), only=LargerThan(100)),
        Step(Status(404), only=OnPath("/v1/track")),
        Step(Slow(0.5, "head", store=False), only=Reused()),
    ],
)
def test_steps_survive_json(step):
    """Bounds, conditions, headers and odd bytes survive the way there and back."""
    assert Script((step,)) == there_and_back(Script((step,)))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_have_names(name):
    """A preset can be asked for by name, and all of them can be written out."""
    assert PRESETS[name]() == script_from_json({"preset": name})
    assert PRESETS[name]() == there_and_back(PRESETS[name]())


def test_presets_take_arguments():
    """The arguments of a preset are passed on."""
    document = {"preset": "outage", "arguments": {"for_s": 1.0, "status": 500}}
    (step,) = script_from_json(document).steps
    assert (1.0, 500) == (step.for_s, step.fault.status)


def test_functions_cannot_be_written():
    """A condition that is a Python function is refused, with what to use instead."""
    script = Script((Step(Status(400), only=Matching(bool)),))
    with pytest.raises(ValueError, match="use WithEvent"):
        script_to_json(script)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "script must be an object, not list"),
        ({}, "needs a list under 'steps'"),
        ({"steps": [7]}, "step must be an object"),
        ({"steps": [{}]}, "fault must be an object"),
        ({"steps": [{"fault": {}}]}, "fault needs a 'kind'"),
        ({"steps": [{"fault": {"kind": "Earthquake"}}]}, "fault needs a 'kind'"),
        ({"steps": [{"fault": {"kind": "Status"}}]}, "does not fit"),
        ({"steps": [{"fault": {"kind": "Status", "code": 1}}]}, "has no 'code'"),
        ({"steps": [{"fault": {"kind": "Status", "status": "1"}}]}, "this str"),
        ({"steps": [{"fault": {"kind": "Status", "status": True}}]}, "this bool"),
        ({"steps": [{"fault": {"kind": "Drop", "at": "noon"}}]}, "Drop.at"),
        ({"steps": [{"fault": {"kind": "Healthy"}, "often": 1}]}, "often"),
        ({"steps": [{"fault": {"kind": "Healthy"}, "requests": "x"}]}, "requests"),
        ({"steps": [{"fault": {"kind": "Healthy"}, "for_s": []}]}, "for_s"),
        (
            {"steps": [{"fault": {"kind": "Healthy"}, "only": {"kind": "Matching"}}]},
            "only needs a 'kind'",
        ),
        ({"preset": "holiday"}, "preset must be one of"),
        ({"preset": "outage", "arguments": {"length": 1}}, "length"),
    ],
)
def test_bad_documents_are_refused_with_the_place(document, reason):
    """A document of another shape is refused, and the text says where it is wrong."""
    with pytest.raises(ValueError, match=reason):
        script_from_json(document)
