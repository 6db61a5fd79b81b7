from __future__ import annotations

import re
import signal

import pytest

from analytics_sdk.collector import Collector, Step, faults
from tests.ground.conftest import told

pytestmark = pytest.mark.timeout(30)

SLACK_S = 2.0
"""What a program takes to start, on a busy machine."""

HUNG = Step(faults.Hang(for_s=20))
SLOW = Step(faults.Healthy(delay_s=0.3))


def lost_lines(err):
    return re.findall(r"(\d+) events for Segment.io ended as lost\(exit\)", err)


def test_backlog_is_delivered(run, collector, python):
    """A plain end of the program delivers what is queued, without a word."""
    ran = run(
        """
client = make(URL, linger_s=60)
for number in range(2_000):
    client.track(f"u-{number % 7}", "Paid", {"text": "x" * 100})
""",
        **python,
    )
    assert "" == ran.err
    assert 2_000 == len(collector.events)
    assert not collector.duplicates


def test_exit_is_bounded(run, collector, python):
    """A vendor that hangs costs the deadline; the rest is lost, in one line."""
    collector.play(HUNG)
    ran = run(
        """
client = make(URL, linger_s=60, exit_timeout_s=0.5)
for number in range(300):
    client.track(f"u-{number % 7}", "Paid")
""",
        **python,
    )
    assert ["300"] == lost_lines(ran.err)
    assert "Traceback" not in ran.err
    assert 0.5 < ran.took_s < 0.5 + SLACK_S


def test_exit_delivers_what_it_can(run, collector):
    """Up to the deadline a slow vendor gets its events; what is lost is counted."""
    collector.play(SLOW)
    ran = run(
        """
client = make(URL, linger_s=60, exit_timeout_s=1.0)
for number in range(3_000):
    client.track(f"u-{number % 7}", "Paid", {"text": "x" * 2_000})
"""
    )
    (lost,) = lost_lines(ran.err)
    assert 0 < len(collector.events)
    assert 3_000 <= int(lost) + len(collector.unique_events()) <= 3_000 + 300


def test_clients_leave_together(run, collector):
    """One client's dead vendor does not take the time of another's at the exit."""
    collector.play(HUNG)
    with Collector() as other:
        run(
            f"""
one = make(URL, exit_timeout_s=0.8)
two = make({other.url!r}, linger_s=60, exit_timeout_s=0.8)
one.track("u", "Hung")
two.track("u", "Paid")
"""
        )
        assert ["Paid"] == told(other)


def test_threads_outlive_the_main_one(run, collector, python):
    """Events of threads that go on after the main thread are delivered at the end."""
    run(
        """
import threading
client = make(URL, linger_s=60, exit_timeout_s=0.6)
client.track("u", "Main")

def work():
    threading.main_thread().join()
    pause(1.0)
    client.track("u", "Thread")

threading.Thread(target=work).start()
""",
        **python,
    )
    assert ["Main", "Thread"] == told(collector)


@pytest.mark.parametrize("before", ["", 'client.track("u", "Before")'])
def test_event_at_exit(run, collector, python, before):
    """What an atexit handler adds is delivered, the client's first event too."""
    run(
        f"""
import atexit
client = make(URL)
{before}
atexit.register(lambda: client.track("u", "At exit"))
""",
        **python,
    )
    assert (["At exit", "Before"] if before else ["At exit"]) == told(collector)


def test_event_after_our_end(run, collector, python):
    """A handler that runs after ours gets a receipt that says lost, and no error."""
    ran = run(
        """
import atexit
@atexit.register
def last():
    receipt = client.track("u", "Too late")
    print(receipt.outcome.kind, receipt.outcome.reason, receipt.wait(1) is not None)
    client.flush(1)
    client.close()
client = make(URL)
client.track("u", "Before")
""",
        **python,
    )
    assert ("lost exit True\n", "") == (ran.out, ran.err)
    assert ["Before"] == told(collector)


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_sudden_end_loses_the_queue(run, collector, end):
    """os._exit and SIGKILL lose what is in memory: said in the documentation."""
    run(
        f"""
client = make(URL, linger_s=60)
client.track("u", "Delivered")
assert client.flush(5)
client.track("u", "Gone")
{end}
""",
        ends=-9 if "kill" in end else 0,
    )
    assert ["Delivered"] == told(collector)


def test_error_ends_the_program(run, collector, python):
    """A program that ends by an exception delivers all the same."""
    ran = run(
        'client = make(URL, linger_s=60)\nclient.track("u", "Paid")\nraise KeyError',
        ends=1,
        **python,
    )
    assert ran.err.endswith("KeyError\n")
    assert ["Paid"] == told(collector)


def test_only_the_hook_of_threading(run, collector):
    """A server that runs no atexit, but joins threads, delivers too."""
    run(
        """
import threading
client = make(URL, linger_s=60)
client.track("u", "Paid")
threading._shutdown()
os._exit(0)
"""
    )
    assert ["Paid"] == told(collector)


def test_dropped_client_delivers_and_is_collected(run, collector):
    """A client that nobody keeps delivers its events, and all of it goes away."""
    run(
        """
import gc, threading, weakref
client = make(URL, linger_s=60)
receipt = client.track("u", "Paid")
gone = weakref.ref(client)
driver = weakref.ref(client._intake.home)
del client
assert gone() is None
assert receipt.wait(5).kind.value == "delivered"
del receipt
assert until(lambda: threading.active_count() == 1)
gc.collect()
assert until(lambda: driver() is None)
"""
    )
    assert ["Paid"] == told(collector)


def test_thousand_clients_leave_nothing(run, collector):
    """1,000 clients, made and closed, leave no thread, no descriptor, no hook."""
    ran = run(
        """
import atexit, gc, threading
hooks = []
fork_hook, os.register_at_fork = os.register_at_fork, lambda **given: hooks.append(1)
def cycle(number, deliver):
    client = make(URL, linger_s=60)
    client.track("u", "Paid", integrations={"All": deliver, "Segment.io": deliver})
    client.close()
cycle(0, True)
def count():
    files = len(os.listdir("/proc/self/fd"))
    return files, threading.active_count(), atexit._ncallbacks()
until(lambda: threading.active_count() == 1)
before = count()
for number in range(1_000):
    cycle(number, number % 10 == 0)
assert until(lambda: threading.active_count() == 1), threading.enumerate()
gc.collect()
assert count() == before, (before, count())
assert len(hooks) <= 1, hooks
from analytics_sdk import _process
assert not _process.residents() and not _process._exit_timeouts_s
""",
        limit_s=25,
    )
    assert "" == ran.err
    assert 101 == len(collector.events)


# -- signals -----------------------------------------------------------------------


def test_signal_without_handlers(run, collector):
    """Nothing is installed by itself: SIGTERM ends a plain program, its queue lost."""
    run(
        """
import signal
client = make(URL, linger_s=60)
client.track("u", "Gone")
os.kill(os.getpid(), signal.SIGTERM)
""",
        ends=-signal.SIGTERM,
    )
    assert [] == told(collector)


def test_signal_delivers_and_ends(run, collector, python):
    """With the handlers SIGTERM delivers, and ends the program as it would have."""
    ran = run(
        """
import signal
client = make(URL, linger_s=60)
client.install_signal_handlers()
client.install_signal_handlers()
client.track("u", "Paid")
os.kill(os.getpid(), signal.SIGTERM)
pause(5)
""",
        ends=-signal.SIGTERM,
        **python,
    )
    assert "" == ran.err
    assert ["Paid"] == told(collector)


def test_second_signal_ends_at_once(run, collector):
    """While a delivery hangs, a second SIGTERM ends the program."""
    collector.play(HUNG)
    ran = run(
        """
import signal, threading
client = make(URL, exit_timeout_s=8)
client.install_signal_handlers()
client.track("u", "Hung")
def again():
    pause(0.3)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=again, daemon=True).start()
os.kill(os.getpid(), signal.SIGTERM)
""",
        ends=-signal.SIGTERM,
    )
    assert ran.took_s < 0.3 + SLACK_S


def test_signal_handlers_chain(run, collector):
    """The handler that was there is called after a delivery; the client lives on."""
    ran = run(
        """
import signal
signal.signal(signal.SIGTERM, lambda number, frame: print("theirs", number))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
client = make(URL, linger_s=60)
client.install_signal_handlers()
client.track("u", "First")
os.kill(os.getpid(), signal.SIGTERM)
assert client.stats().queued_events == 0
os.kill(os.getpid(), signal.SIGHUP)
assert client.track("u", "Second").accepted
"""
    )
    assert f"theirs {int(signal.SIGTERM)}\n" == ran.out
    assert ["First", "Second"] == told(collector)


def test_signal_handlers_in_a_child(run, collector):
    """A forked child delivers its own at a signal; the parent's stays with it."""
    run(
        """
import signal
client = make(URL, linger_s=60)
client.install_signal_handlers()
client.track("p", "Parent")
def child():
    client.track("c", "Child")
    os.kill(os.getpid(), signal.SIGTERM)
assert [-signal.SIGTERM] == reap([fork(child)])
"""
    )
    assert ["Child", "Parent"] == told(collector)


def test_signal_handlers_need_the_main_thread(run):
    """On another thread the request is refused with Python's own error."""
    run(
        """
import threading
client = make(URL)
def ask():
    try:
        client.install_signal_handlers()
    except ValueError as error:
        print(error)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""
    )


# -- a crowd -----------------------------------------------------------------------


def test_crowd_is_warned_of_once(run):
    """The ninth living client of one configuration is worth a line, and no more."""
    ran = run(
        """
clients = []
for number in range(12):
    clients.append(make(URL, exit_timeout_s=0.1))
    clients[-1].track("u", "Paid")
    assert clients[-1].flush(5)
    if number == 7:
        print("eight", file=sys.stderr)
"""
    )
    quiet, warned = ran.err.split("eight\n")
    assert "" == quiet
    assert 1 == warned.count("clients of one configuration")


def test_clients_of_other_configurations_are_no_crowd(run):
    """Clients with other keys or hosts are what an application may have many of."""
    ran = run(
        """
from analytics_sdk import Client, Segment
clients = []
for number in range(12):
    clients.append(Client(Segment(f"key-{number}", host=URL)))
    clients[-1].track("u", "Paid")
    assert clients[-1].flush(5)
"""
    )
    assert "" == ran.err
