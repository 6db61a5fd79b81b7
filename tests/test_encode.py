from __future__ import annotations

import copy
import datetime as dt
import json
import math
import pathlib
import random
import re
import sys
import threading
from collections import deque
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from uuid import UUID

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analytics_sdk import _encode, _repair
from analytics_sdk._encode import make_encoder, quote, to_bytes
from tests import strategies
from tests.strategies import (
    Colour,
    Opaque,
    Order,
    Raising,
    Slim,
    plain_values,
    values,
)

JSON = make_encoder(speed=False)
FAST = make_encoder()  # the same serialiser again where orjson is not installed
ENCODERS = [JSON, FAST]
both = pytest.mark.parametrize("encoder", ENCODERS, ids=["json", "fast"])
DOCS = pathlib.Path(__file__).parent.parent / "docs" / "values.md"


class Lazy:
    """Stands for a lazy string of Flask-Babel, which is known by its class's name."""

    __module__ = "flask_babel.speaklater"
    __qualname__ = "LazyString"

    def __init__(self, text):
        self._text = text

    def __str__(self):
        return self._text


class Dtype:
    def __init__(self, kind):
        self.kind = kind


class Array:
    """Has of numpy's array what the rule looks for."""

    def __init__(self, items, kind="i", size=1):
        self._items = items
        self._kind = kind
        self.size = size

    @property
    def dtype(self):
        return Dtype(self._kind)

    def tolist(self):
        return self._items

    def astype(self, name):
        return Array([name])


def cycle():
    loop = {}
    loop["self"] = loop
    return loop


def nested(levels, wrap=lambda value: [value]):
    value = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def strict_loads(raw):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(raw.decode("utf-8", "strict"), parse_constant=refuse)


def parsed(encoder, value):
    return strict_loads(encoder.encode(value)[0])


def rows():
    row = re.compile(r"^\| `(.+?)` \| `(.+?)` \|", re.MULTILINE)
    return row.findall(DOCS.read_text("utf-8"))


NAMES = {
    **vars(strategies),
    "Array": Array,
    "Lazy": Lazy,
    "Decimal": Decimal,
    "MappingProxyType": MappingProxyType,
    "PurePosixPath": PurePosixPath,
    "UTC": dt.timezone.utc,
    "UUID": UUID,
    "cycle": cycle,
    "date": dt.date,
    "datetime": dt.datetime,
    "deque": deque,
    "nan": math.nan,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "timezone": dt.timezone,
}


@both
@pytest.mark.parametrize(("python", "expected"), rows())
def test_the_documented_table_is_true(encoder, python, expected):
    """Each row of docs/values.md holds, alone and between neighbours."""
    want = json.loads(expected)
    opaque = "tests.strategies"

    def got(value):
        text = json.dumps(parsed(encoder, value))
        return json.loads(text.replace(Opaque.__module__, opaque))

    assert want == got(eval(python, NAMES))
    value = {"before": 1, "bad": [eval(python, NAMES)], "after": 2}
    assert {"before": 1, "bad": [want], "after": 2} == got(value)


def test_the_table_has_a_row_for_every_rule():
    """A rule that the page does not show would not be a documented one."""
    page = DOCS.read_text("utf-8")
    assert 40 < len(rows())
    for kind in _repair._RULES:
        name = kind.__name__.replace("dict_", "").replace("Enum", "enum")
        assert name in page, name


@settings(max_examples=300, deadline=None)
@given(values())
@example({1: "a", "1": "b"})
@example(dict(zip("\ud800\ud801", (1, 2), strict=True)))
@example([{Opaque(): 1, Raising(): 2}])
@example(10**400)
@example([-(2**63) - 1, 2**64, "a:1234567890123456789012"])
def test_both_serialisers_agree_on_any_value(value):
    """Whatever the value, both make valid strict JSON that parses equal."""
    left, left_repairs = JSON.encode(value)
    right, right_repairs = FAST.encode(value)
    assert strict_loads(left) == strict_loads(right)
    assert right_repairs <= left_repairs
    assert JSON.decode(left) == FAST.decode(right)


@settings(max_examples=100, deadline=None)
@given(plain_values())
def test_plain_values_come_back_as_they_went(value):
    """Plain JSON values survive a round trip, unrepaired and unchanged."""
    before = copy.deepcopy(value)
    for encoder in ENCODERS:
        raw, repairs = encoder.encode(value)
        assert (before, 0) == (encoder.decode(raw), repairs)
        assert (raw, 0) == encoder.fragment(value)
    assert before == value


@settings(max_examples=100, deadline=None)
@given(values(), st.text())
def test_neighbours_survive_any_value(value, text):
    """A value beside another is encoded as it would be alone."""
    for encoder in ENCODERS:
        document = {"before": text, "value": value, "after": [text]}
        alone = parsed(encoder, value)
        together = {"before": text, "value": alone, "after": [text]}
        assert together == parsed(encoder, document)


@both
def test_repairs_are_counted(encoder):
    """Every mended or marked value counts once; ordinary conversions do not."""
    bad = {"a": 2**64, "b": "\ud800", "c": Opaque(), "d": math.nan, 1: Colour.RED}
    assert 4 == encoder.encode(bad)[1]
    assert 0 == encoder.encode([Decimal("1.5"), {1, 2}, Order(1), {3: 4}])[1]


@both
def test_naive_datetimes_are_counted_apart(encoder):
    """A naive datetime is no repair, and has a counter of its own."""
    fresh = make_encoder(speed=encoder.name == "orjson")
    naive = dt.datetime(2026, 1, 2)  # noqa: DTZ001
    aware = naive.replace(tzinfo=dt.timezone.utc)
    assert 0 == fresh.encode([naive, naive, aware])[1]
    assert 2 == fresh.naive_datetimes


@both
def test_datetimes_that_are_no_moment_are_null(encoder):
    """A datetime unlike itself, as pandas has one, is null."""

    class NotATime(dt.datetime):
        def __ne__(self, other):
            return True

        __hash__ = None

    assert [None] == parsed(encoder, [NotATime(1, 1, 1, tzinfo=dt.timezone.utc)])


@both
@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"[{": v}, Order], ids=["list", "dict", "class"]
)
def test_levels_up_to_254_pass_and_the_next_is_marked(encoder, wrap):
    """Both serialisers cut at the same level, whatever the levels are made of."""
    deep = nested(127, lambda v: {'\\"[': [v]})
    assert 0 == encoder.encode(deep)[1]
    assert deep == parsed(encoder, deep)
    assert 0 == encoder.encode(nested(200, wrap))[1]
    assert 1 == encoder.encode(nested(255, wrap))[1]
    assert b"depth" in encoder.encode(nested(300, wrap))[0]


@both
def test_many_shallow_levels_are_not_deep(encoder):
    """Hundreds of lists beside each other are no depth, nor are brackets in texts."""
    wide = [[[]] for _ in range(300)] + [{"a": "[" * 300}]
    assert 0 == encoder.encode(wide)[1]
    assert wide == parsed(encoder, wide)


@both
@pytest.mark.parametrize("start", ["here", "thread"])
def test_bottomless_nesting_never_raises(encoder, start):
    """Cycles and 5,000 levels end in a marker, on the main and on other threads."""
    looped = Order(1)
    looped.lines = [looped]
    results = []

    def work():
        results.extend(encoder.encode(v) for v in (nested(5_000), looped, cycle()))

    if start == "here":
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [True] * 3 == [b"$unserializable" in raw for raw, _ in results]
    assert [1] * 3 == [repairs for _, repairs in results]


@both
def test_a_used_up_stack_costs_the_value_only(encoder):
    """With no stack left for the walk, a shallower one is taken, or a marker."""

    def dig(levels):
        return dig(levels - 1) if levels else encoder.encode(nested(300))

    limit = sys.getrecursionlimit()
    frames = limit - len(stack()) - 60
    raw, repairs = dig(frames)
    assert 1 == repairs
    assert [[[[{"$unserializable": "depth"}]]]] == strict_loads(raw)


def stack():
    frame, frames = sys._getframe(), []
    while frame:
        frames.append(frame)
        frame = frame.f_back
    return frames


@both
def test_when_the_walk_itself_fails_a_marker_is_left(encoder, monkeypatch):
    """Even an error in the walk does not reach the caller."""
    monkeypatch.setattr(_repair.Walk, "visit", None)
    raw, repairs = encoder.encode({1j: 1})
    assert ({"$unserializable": "depth"}, 1) == (strict_loads(raw), repairs)


@both
def test_a_shared_value_is_no_cycle(encoder):
    """The same object twice, side by side, is written twice."""
    shared = {"a": 1j}
    mark = {"a": {"$unserializable": "builtins.complex"}}
    assert [mark, mark] == parsed(encoder, [shared, shared])


@both
def test_models_without_an_end_are_marked(encoder):
    """A model that dumps itself, or a new model each time, costs only itself."""

    class Selfish:
        def model_dump(self):
            return self

    class Endless:
        def model_dump(self):
            return Endless()

    got = parsed(encoder, [Selfish(), Endless(), 1])
    assert {"$unserializable": "cycle"} == got[0]
    assert got[1]["$unserializable"].endswith("Endless")
    assert 1 == got[2]


@both
def test_size_is_capped_in_the_walk(encoder, monkeypatch):
    """Past the cap a walk ends lists and dicts with a marker."""
    monkeypatch.setattr(_repair, "MAX_VALUES", 5)
    bad = {1j: 0, "list": [1, 2, 3, 4, 5], "more": 6}
    got = parsed(encoder, bad)
    assert {"$unserializable": "size"} == got["list"][-1]
    assert "size" == got["$unserializable"]
    assert "more" not in got


@both
@pytest.mark.parametrize(
    "value",
    [
        Array([1], size=10_001),
        Array([1], size=len),
        MappingProxyType(dict.fromkeys(range(10_001))),
        range(10_001),
    ],
    ids=["array", "array of no size", "mapping", "range"],
)
def test_long_foreign_values_are_marked(encoder, value):
    """Arrays, mappings and ranges beyond 10,000 elements become markers."""
    assert ["$unserializable"] == list(parsed(encoder, value))


@both
def test_arrays_of_times_keep_their_meaning(encoder):
    """Arrays of datetimes and timedeltas are taken in microseconds."""
    assert ["datetime64[us]"] == parsed(encoder, Array([0], kind="M"))
    assert ["timedelta64[us]"] == parsed(encoder, Array([0], kind="m"))


@both
def test_numpy_itself_is_understood(encoder):
    """The real numpy's scalars and arrays follow the table."""
    np = pytest.importorskip("numpy")
    value = {
        "f": np.float64(1.5),
        "i": np.int32(7),
        "b": np.bool_(True),
        "n": np.float32("nan"),
        "a": np.array([[1, 2], [3, 4]]),
        "t": np.datetime64("2026-01-02T03:04:05.000000000"),
        "d": np.timedelta64(1500, "ms"),
        "c": np.array([1j]),
    }
    expected = {
        "f": 1.5,
        "i": 7,
        "b": True,
        "n": None,
        "a": [[1, 2], [3, 4]],
        "t": "2026-01-02T03:04:05.000Z",
        "d": 1.5,
        "c": [{"$unserializable": "builtins.complex"}],
    }
    assert expected == parsed(encoder, value)


@both
def test_stored_fields_only(encoder):
    """Fields come from storage, slots and plain properties; no descriptor runs."""

    class Column:
        def __get__(self, instance, owner):
            raise AssertionError("queried the database")

    class Mapped:
        __dataclass_fields__ = dict.fromkeys(("id", "loaded", "lazy", "total", "gone"))
        lazy = loaded = Column()

        def __init__(self):
            self.__dict__.update(id=1, loaded=2)

        @property
        def total(self):
            return 3

    assert {"id": 1, "loaded": 2, "total": 3} == parsed(encoder, Mapped())
    assert {"id": 1} == parsed(encoder, Slim(1))
    empty = attrs.make_class("Empty", ["x"], slots=True)
    assert {} == parsed(encoder, empty.__new__(empty))


@both
def test_unknown_objects_are_left_alone(encoder):
    """No method or `__class__` of an unknown object is looked at."""
    touched = []

    class QuerySet:
        @property
        def __class__(self):
            touched.append("class")
            return list

        def __getattr__(self, name):
            touched.append(name)
            raise AttributeError(name)

        def _touch(self):
            touched.append("method")
            return iter("abc")

        __iter__ = __len__ = __str__ = __repr__ = __hash__ = __bool__ = _touch

    generator = iter([1, 2])
    got = parsed(encoder, {"rows": QuerySet(), "it": generator})
    assert got["rows"]["$unserializable"].endswith("QuerySet")
    assert [] == touched
    assert [1, 2] == list(generator)


@both
def test_classes_that_hide_their_name_are_unknown(encoder):
    """A metaclass that raises costs no more than the name, and never the neighbours."""

    class Meta(type):
        def __getattribute__(cls, name):
            raise ZeroDivisionError

        def __hash__(cls):
            raise ZeroDivisionError

    class Hidden(metaclass=Meta):
        pass

    assert [1, {"$unserializable": "unknown"}] == parsed(encoder, [1, Hidden()])


@both
@pytest.mark.parametrize("cause", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_pass(encoder, cause):
    """An interrupt that arrives in the value's own code reaches the caller."""

    class Interrupted:
        times = 0

        def model_dump(self):
            self.times += 1
            if self.times == 1:
                raise cause
            return {}

    with pytest.raises(cause):
        encoder.encode({"a": Interrupted()})
    with pytest.raises(cause):
        encoder.fragment({"a": Interrupted()})
    with pytest.raises(cause):
        encoder.fragment({1j: 1, "a": Interrupted()})


@both
def test_a_dict_that_changes_meanwhile_is_tried_again(encoder):
    """Changed while it is read, a mapping is read again, at most three times."""

    class Busy(dict):
        reads = 0

        def items(self):
            self.reads += 1
            if self.reads < 4:
                raise RuntimeError("dictionary changed size during iteration")
            return super().items()

    class Changing(dict):
        def items(self):
            raise RuntimeError("dictionary changed size during iteration")

    busy = Busy(a=1)
    assert {"a": 1} == parsed(encoder, busy)
    assert 4 == busy.reads
    assert ["$unserializable"] == list(parsed(encoder, Changing(a=1)))


@both
def test_recursion_in_a_value_is_not_tried_again(encoder):
    """A model whose own dump runs out of stack becomes a marker at once."""

    class Deep:
        calls = 0

        def model_dump(self):
            Deep.calls += 1
            raise RecursionError

    assert ["$unserializable"] == list(parsed(encoder, Deep()))
    assert 2 == Deep.calls


@both
def test_writers_on_other_threads_do_no_harm(encoder):
    """While another thread adds and removes keys, every encoding is valid."""
    shared = {str(n): {"n": [n, 1j]} for n in range(50)}
    stop = threading.Event()

    def write():
        draw = random.Random(0)
        while not stop.is_set():
            key = str(draw.randrange(100))
            shared.pop(key, None)
            shared[key] = {"n": list(range(draw.randrange(5)))}

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            assert strict_loads(encoder.encode({"shared": shared})[0])
    finally:
        stop.set()
        thread.join()


@both
def test_encoded_bytes_are_a_snapshot_of_exact_size(encoder):
    """What is kept is a copy that later changes do not reach, and no larger."""
    value = {"a": [1] * 100}
    raw, _ = encoder.encode(value)
    again = bytes(bytearray(raw))
    value["a"].append(2)
    assert (again, sys.getsizeof(again)) == (raw, sys.getsizeof(raw))


def test_what_the_serialiser_allocates_is_not_kept(require):
    """Bytes as orjson returns them hold kilobytes; those of `encode` are a copy."""
    require("orjson", "pip install orjson")
    encoder = make_encoder(speed=True)
    scratch = encoder._dumps([1])
    encoder._dumps = lambda *_: scratch
    kept, _ = encoder.encode([1])
    assert scratch == kept
    assert scratch is not kept


@both
def test_a_dict_that_its_own_value_changes_is_still_read(encoder):
    """A dict that grows while it is walked is read as it was, and nothing is lost."""

    class Writer:
        def model_dump(self):
            shared[str(len(shared))] = 1
            return 7

    shared = {"bad": 1j, "writer": Writer(), "after": 8}
    got = parsed(encoder, shared)
    assert (7, 8) == (got["writer"], got["after"])


def test_odd_keys_that_would_meet_keep_their_values():
    """Keys that are mended into one text are numbered."""
    for encoder in ENCODERS:
        odd = ["\ud800", chr(0xD801), Opaque(), Opaque()]
        got = parsed(encoder, dict(zip(odd, [1, 2, 3, 4], strict=True)))
        assert [1, 2, 3, 4] == list(got.values())
        assert {"18446744073709551616": 1} == parsed(encoder, {2**64: 1})
        assert 0 == encoder.encode({2**64: 1})[1]
        assert ['{"$unserializable":"int"}'] == list(parsed(encoder, {10**5000: 1}))


def test_text_for_templates():
    """Quoted text joins a template; surrogates are mended when it becomes bytes."""
    assert ('{"a":"é\\"\\n"}'.encode(), 0) == to_bytes(
        f'{{"a":{quote("é" + chr(34) + chr(10))}}}'
    )
    assert ('"�😀"'.encode(), 1) == to_bytes(quote("\ud800\ud83d\ude00"))


@pytest.mark.parametrize("raw", [b"", b"{", b"nope"])
def test_decode_raises_value_error_for_other_bytes(raw):
    """Bytes that are no JSON raise ValueError with either decoder."""
    for encoder in ENCODERS:
        with pytest.raises(ValueError):
            encoder.decode(raw)


def test_the_serialiser_is_chosen_by_name(monkeypatch, require):
    """The fast one is taken where it is installed, and missed only if required."""
    require("orjson", "pip install orjson")
    assert "orjson" == make_encoder().name
    assert "json" == make_encoder(speed=False).name
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert "json" == make_encoder().name
    with pytest.raises(ImportError, match=r"speed: .*analytics-sdk-server\[speed\]"):
        make_encoder(speed=True)


def test_without_the_c_encoder_the_results_are_the_same(monkeypatch):
    """On interpreters without json's C encoder the Python one stands in."""
    monkeypatch.setattr(_encode._json_encoder, "c_make_encoder", None)
    slow = make_encoder(speed=False)
    for python, expected in rows():
        if "Opaque" not in python and "Raising" not in python:
            assert json.loads(expected) == parsed(slow, eval(python, NAMES))
