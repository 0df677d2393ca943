"""Work beside the stream: what comes out depends on no clock."""

import subprocess
import sys
import threading
from collections import deque

import pytest

from app.detectors.support import background


@pytest.fixture
def held():
    """The thread is busy until this is set, and then nothing waits for it."""
    free, taken = threading.Event(), threading.Event()
    task = background.begin(lambda: (taken.set(), free.wait()))
    taken.wait()
    yield free
    free.set()
    task.result()


def idle():
    """Wait until the thread has ended."""
    for thread in threading.enumerate():
        if thread.name == "background":
            thread.join()


def test_a_call_is_made_once_and_its_result_stays():
    calls = []
    task = background.begin(lambda: calls.append(1) or len(calls))
    assert [task.result(), task.result()] == [1, 1]
    idle()
    assert calls == [1]


def test_the_thread_makes_it_where_nobody_asks():
    made = []
    task = background.begin(lambda: made.append(threading.current_thread().name))
    idle()
    assert made == ["background"]
    task.result()
    assert made == ["background"]


def test_who_needs_it_makes_it_when_the_thread_has_not_come_to_it(monkeypatch):
    idle()
    monkeypatch.setattr(background, "_working", True)  # and none is: it never comes
    monkeypatch.setattr(background, "_waiting", deque())
    task = background.begin(threading.current_thread)
    assert task.result() is threading.current_thread()


def test_one_call_is_made_at_a_time(held):
    order = []
    first, second = (background.begin(lambda i=i: order.append(i)) for i in (1, 2))
    asking = threading.Thread(target=second.result)
    asking.start()
    order.append("held")
    held.set()
    asking.join()
    first.result()
    assert order[0] == "held" and set(order) == {"held", 1, 2}


def test_who_needs_it_waits_while_it_is_made():
    begun, go_on = threading.Event(), threading.Event()
    task = background.begin(lambda: (begun.set(), go_on.wait(), "made")[-1])
    begun.wait()
    found = []
    asking = threading.Thread(target=lambda: found.append(task.result()))
    asking.start()
    assert not found
    go_on.set()
    asking.join()
    assert found == ["made"]


def test_what_a_call_raises_is_raised_where_its_result_is_needed_each_time():
    task = background.begin(lambda: 1 / 0)
    idle()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            task.result()
    assert background.begin(lambda: 2).result() == 2


def test_a_task_that_nobody_holds_is_not_made(held):
    made = []
    background.begin(lambda: made.append("dropped"))
    kept = background.begin(lambda: made.append("kept"))
    held.set()
    idle()
    assert made == ["kept"] and kept


def test_without_a_thread_to_be_had_it_is_made_where_it_is_needed(monkeypatch):
    idle()

    def none_left(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        task = background.begin(threading.current_thread)
        assert task.result() is threading.current_thread()
    other = background.begin(threading.current_thread)
    idle()
    assert other.result().name == "background"


def test_the_end_of_the_process_waits_for_one_call_only():
    script = (
        "import threading\n"
        "from app.detectors.support import background\n"
        "begun, ended = threading.Event(), threading.main_thread().join\n"
        "def first(): begun.set(); ended(); print('first')\n"
        "kept = [background.begin(first)] + [background.begin(lambda: print('another')) for _ in range(9)]\n"
        "begun.wait()\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("first\n", "")


def test_threads_take_short_turns_only_while_there_is_work(held):
    assert sys.getswitchinterval() == pytest.approx(background.TURN_S)
    held.set()
    idle()
    assert sys.getswitchinterval() == pytest.approx(0.005)
