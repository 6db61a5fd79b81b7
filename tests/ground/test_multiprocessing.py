from __future__ import annotations

import subprocess

import pytest

from tests.ground.conftest import PATHS, PYTHONS, ROOT, SITE, told, version_of
from tests.ground.stage import KEY

pytestmark = pytest.mark.timeout(30)

PROGRAM = """\
import multiprocessing, os, sys
from tests.ground.stage import make

URL = sys.argv[1]
client = make(URL, linger_s=60)

def work(number):
    client.track("c", "Child")

def settle(number):
    receipt = client.track("c", "Child")
    assert client.flush(5).counts == {"delivered": 1}
    return os.getpid()

def first_in(url):
    made = make(url, linger_s=60)
    made.track("c", "Child")

if __name__ == "__main__":
    way, what = sys.argv[2:4]
    context = multiprocessing.get_context(way)
    client.track("p", "Parent")
"""

ENDS = """\
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(8)
    assert [0, 0, 0] == [child.exitcode for child in children]
    assert client.flush(5).counts == {"delivered": 1}
"""

POOL = """\
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert len(set(pool.map(settle, range(6)))) <= 2
    assert client.flush(5).counts == {"delivered": 1}
"""

POOL_END = """\
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(work, range(6)))
    assert client.flush(5).counts == {"delivered": 1}
"""

NO_PICKLE = """\
    import copy, pickle
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        try:
            act(client)
        except TypeError as error:
            assert "cannot be pickled" in str(error) and "make one" in str(error)
        else:
            raise AssertionError(act)
    try:
        context.Process(target=print, args=(client,)).start()
    except TypeError as error:
        print(error)
    else:
        assert way == "fork"
"""


@pytest.fixture
def play(run, tmp_path, collector):
    """Run a program that children of multiprocessing can import again."""

    def run_file(body, way):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM + body)
        launch = f"""
sys.argv = [{str(path)!r}, URL, {way!r}, ""]
command = [sys.executable, "-W", "ignore", *sys.argv]
sys.exit(os.spawnv(os.P_WAIT, sys.executable, command))
"""
        return run(launch, limit_s=20)

    return run_file


@pytest.mark.parametrize("way", ["fork", "forkserver", "spawn"])
def test_children_deliver_as_they_end(play, collector, way):
    """A child of multiprocessing, however it is made, delivers what it was given."""
    ran = play(ENDS, way)
    assert ["Child"] * 3 + ["Parent"] == told(collector)
    assert not collector.duplicates
    assert "Traceback" not in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "forkserver", "spawn"])
def test_workers_of_a_pool_settle(play, collector, way):
    """In a pool's workers calls are settled while they work."""
    play(POOL, way)
    assert ["Child"] * 6 + ["Parent"] == told(collector)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_of_a_pool_deliver_as_they_end(play, collector, way):
    """A pool's workers deliver what is left when the pool is closed."""
    play(POOL_END, way)
    assert ["Child"] * 6 + ["Parent"] == told(collector)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_client_is_not_pickled(play, collector, way):
    """Pickle and copy are refused with the remedy; what needs them fails clearly."""
    ran = play(NO_PICKLE, way)
    assert KEY not in ran.out + ran.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python3.13", "python3.12", "python3.10"])
def test_children_on_other_pythons(collector, name, tmp_path):
    """Children of fork deliver as they end, whether atexit runs in them or not."""
    found = [python for python in PYTHONS if version_of(python) == name]
    if not found:
        pytest.skip(f"{name} is not installed; to run this test: pyenv install")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + ENDS)
    environment = {"PYTHONPATH": ":".join((*PATHS, SITE)), "PATH": ""}
    subprocess.run(
        [found[0], "-W", "ignore", str(path), collector.url, "fork", ""],
        env=environment,
        cwd=ROOT,
        timeout=20,
        check=True,
    )
    assert ["Child"] * 3 + ["Parent"] == told(collector)
