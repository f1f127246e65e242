"""Blocking work in native threads: in this plain process, and in one that eventlet runs."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from glance.streaming import retry, tasks, threads
from glance.streaming.fanout import Fanout

BRIEF = retry.Backoff.steady(0.01, seconds=10)


class Boom(Exception):
    pass


def boom(*args):
    raise Boom(*args)


@pytest.fixture
def fds():
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


# -- a plain process --


def test_nothing_of_eventlet_is_loaded():
    script = """
        import sys
        from glance.streaming import hub, tasks, threads
        from glance.streaming.fanout import Fanout
        threads.run(int)
        tasks.spawn(int).join()
        hub.sleep(0)
        with hub.lock(), hub.deadline(1):
            pass
        with Fanout([len]) as fanout:
            fanout.put(b"x")
            fanout.join()
        print("eventlet" in sys.modules, hub.is_green())
    """
    assert plain(script) == "False False\n"


def test_work_runs_inline():
    assert threads.run(threading.get_ident) == threading.get_ident()
    assert threads.run(max, [1, 3, 2], key=lambda value: -value) == 1
    with pytest.raises(Boom):
        threads.run(boom)


def test_background_work_runs_in_a_thread_and_logs_its_error(caplog):
    seen = []
    tasks.spawn(lambda value: seen.append((value, threading.get_ident())), 5).join()
    assert seen[0][0] == 5
    assert seen[0][1] != threading.get_ident()
    tasks.spawn(boom, "mine").join()
    assert "Boom: mine" in caplog.text


# -- fan-out --


def test_no_more_tasks_run_than_the_limit(caplog):
    ended, limited = threading.Event(), tasks.Limited(2)
    assert [limited.spawn(ended.wait) for _ in range(3)] == [True, True, False]
    ended.set()
    assert retry.wait_until(lambda: limited.spawn(boom), BRIEF)
    # One that failed leaves its place, too.
    assert retry.wait_until(lambda: "Background task" in caplog.text, BRIEF)
    ended.clear()
    assert retry.wait_until(lambda: limited.spawn(ended.wait), BRIEF)
    assert retry.wait_until(lambda: limited.spawn(ended.wait), BRIEF)
    assert not limited.spawn(ended.wait)
    ended.set()


def test_every_consumer_sees_every_item_in_order(fds):
    one, other = [], []
    items = [bytes([number % 256]) * 10 for number in range(500)]
    with Fanout([one.append, other.append], depth=3) as fanout:
        for item in items:
            fanout.put(item)
        fanout.join()
        assert (one, other) == (items, items)


def test_joining_with_nothing_to_do_returns(fds):
    with Fanout([len]) as fanout:
        fanout.join()


def test_consumers_work_at_the_same_time(fds):
    barrier = threading.Barrier(2)
    with Fanout([lambda item: barrier.wait(10), lambda item: barrier.wait(10)]) as fanout:
        fanout.put(b"x")
        fanout.join()


def test_the_feeder_waits_for_the_slowest_consumer(fds):
    go, done, fed = threading.Event(), [], []

    def slow(item):
        go.wait(10)
        done.append(item)

    def feed():
        with Fanout([slow, len], depth=3) as fanout:
            for number in range(10):
                fanout.put(bytes([number]))
                fed.append(number)
            fanout.join()

    thread = threading.Thread(target=feed)
    thread.start()
    while len(fed) < 3:
        time.sleep(0.001)
    time.sleep(0.05)
    assert (len(fed), len(done)) == (3, 0)
    go.set()
    thread.join(10)
    assert (len(fed), len(done)) == (10, 10)


def test_the_first_error_reaches_the_feeder_and_stops_the_others(fds):
    seen = []
    with pytest.raises(Boom):
        with Fanout([boom, seen.append], depth=2) as fanout:
            for number in range(1000):
                fanout.put(bytes([number % 256]))
    assert len(seen) < 1000


def test_an_error_on_the_last_item_is_raised_by_join(fds):
    with Fanout([boom]) as fanout:
        fanout.put(b"x")
        with pytest.raises(Boom):
            fanout.join()


def test_after_closing_no_consumer_runs_any_more(fds):
    running, seen = threading.Event(), []

    def slow(item):
        running.set()
        time.sleep(0.05)
        seen.append(item)

    with pytest.raises(Boom):
        with Fanout([slow], depth=10) as fanout:
            for _ in range(10):
                fanout.put(b"x")
            running.wait(10)
            raise Boom
    count = len(seen)
    assert 1 <= count < 10
    time.sleep(0.1)
    assert len(seen) == count


def test_closing_twice_does_nothing(fds):
    fanout = Fanout([len])
    fanout.close()
    fanout.close()


def test_many_at_once_share_the_threads(fds):
    results = []

    def feed(number):
        seen = []
        with Fanout([seen.append, len], depth=2) as fanout:
            for _ in range(50):
                fanout.put(bytes([number]))
            fanout.join()
        results.append(seen == [bytes([number])] * 50)

    feeders = [threading.Thread(target=feed, args=(number,)) for number in range(50)]
    for thread in feeders:
        thread.start()
    for thread in feeders:
        thread.join(20)
    assert results == [True] * 50
    native = [thread for thread in threading.enumerate() if thread.name == "native-work"]
    assert len(native) <= threads.MAX_THREADS


def test_a_child_process_makes_threads_of_its_own(fds):
    with Fanout([len]) as fanout:
        fanout.put(b"x")
        fanout.join()
    pid = os.fork()
    if not pid:
        seen = []
        with Fanout([seen.append]) as fanout:
            fanout.put(b"x")
            fanout.join()
        os._exit(0 if seen == [b"x"] else 1)
    assert os.waitpid(pid, 0)[1] == 0


# -- under eventlet --


def plain(script, prelude=""):
    """Run a script in a process of its own and return what it printed."""
    return subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", prelude + textwrap.dedent(script)],
        text=True,
        timeout=60,
    )


def green(script):
    prelude = """
import os, sys, time
import eventlet
eventlet.monkey_patch()
from eventlet import patcher
from glance.streaming import hub, tasks, threads
from glance.streaming.fanout import Fanout
native_time = patcher.original("time")
get_ident = patcher.original("threading").get_ident
fds = lambda: len(os.listdir("/proc/self/fd"))
"""
    return plain(script, prelude)


def test_work_runs_in_a_native_thread_while_the_hub_goes_on():
    script = """
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                eventlet.sleep(0)

        def work(count):
            while len(ticks) < count:
                native_time.sleep(0.001)
            return get_ident()

        eventlet.spawn(tick)
        print(threads.run(work, 50) != get_ident(), hub.is_green())
    """
    assert green(script) == "True True\n"


def test_results_and_errors_come_back_and_leak_nothing():
    script = """
        threads.run(int)
        before = fds()
        assert [threads.run(pow, number, 2) for number in range(200)][-1] == 199 ** 2
        for error in (KeyError("k"), SystemExit(3), KeyboardInterrupt()):
            def fail():
                raise error
            try:
                threads.run(fail)
            except BaseException as err:
                assert err is error
            else:
                assert False
        print(fds() - before)
    """
    assert green(script) == "0\n"


def test_many_calls_at_once_share_one_descriptor():
    script = """
        threads.run(int)
        before = fds()
        go = patcher.original("threading").Event()
        callers = [eventlet.spawn(threads.run, go.wait, 10) for _ in range(20)]
        eventlet.sleep(0.01)
        print(fds() - before)
        go.set()
        print(all(caller.wait() for caller in callers))
    """
    assert green(script) == "0\nTrue\n"


def test_a_caller_that_ends_with_an_error_harms_no_other_one():
    script = """
        go = patcher.original("threading").Event()

        def caller(fails):
            threads.run(go.wait, 10)
            if fails:
                raise KeyError("mine")
            return threads.run(int)

        from eventlet import debug
        debug.hub_exceptions(False)
        callers = [eventlet.spawn(caller, number % 2) for number in range(8)]
        eventlet.sleep(0.01)
        go.set()
        for number, one in enumerate(callers):
            try:
                print(one.wait(), end=" ")
            except KeyError:
                print(number, end=" ")
        print(threads.run(int))
    """
    assert green(script) == "0 1 0 3 0 5 0 7 0\n"


JOINED = """
        log = []
        submit = threads._Pool.submit

        def counted(pool, job):
            log.append("job")
            submit(pool, job)

        threads._Pool.submit = counted

        def say(word):
            assert get_ident() != main
            native_time.sleep(0.02)
            log.append(word)

        main = get_ident()
"""


def test_a_step_is_done_together_with_the_next_job_of_its_greenthread():
    script = (
        JOINED
        + """
        def other():
            threads.run(say, "other")

        with threads.joined(lambda: say("step")):
            eventlet.spawn(other).wait()
            threads.run(say, "work")
            threads.run(say, "more")
        print(*log)
    """
    )
    assert green(script) == "job other job step work job more\n"


def test_a_step_without_another_job_is_a_job_of_its_own_whatever_happens():
    script = (
        JOINED
        + """
        with threads.joined(lambda: say("step")):
            pass
        try:
            with threads.joined(lambda: say("again")):
                raise KeyError
        except KeyError:
            log.append("error")

        def killed():
            with threads.joined(lambda: say("at last")):
                eventlet.sleep(10)

        one = eventlet.spawn(killed)
        eventlet.sleep(0)
        one.kill()
        while not one.dead:
            eventlet.sleep(0)
        print(*log, threads._joined)
    """
    )
    assert green(script) == "job step job again error job at last {}\n"


def test_a_step_is_done_at_once_where_work_runs_inline():
    seen = []
    with threads.joined(lambda: seen.append(1)):
        assert seen == [1]
        threads.run(seen.append, 2)
    assert seen == [1, 2]


def test_work_inside_of_work_runs_inline():
    script = """
        print(threads.run(lambda: threads.run(get_ident) == get_ident()))
    """
    assert green(script) == "True\n"


def test_a_kill_waits_for_the_work_to_end():
    script = """
        log = []

        def work():
            native_time.sleep(0.1)
            log.append("work ended")

        def caller():
            try:
                threads.run(work)
            finally:
                log.append("caller goes on")

        thread = eventlet.spawn(caller)
        eventlet.sleep(0.02)
        thread.kill()
        thread.kill()
        try:
            thread.wait()
        except BaseException as err:
            log.append(type(err).__name__)
        print(log)
    """
    assert green(script) == "['work ended', 'caller goes on', 'GreenletExit']\n"


def test_a_deadline_ends_a_wait_and_spares_the_quick():
    script = """
        with hub.deadline(5), hub.deadline(None):
            hub.sleep(0)
        try:
            with hub.deadline(0.02, "too slow"):
                hub.sleep(10)
        except TimeoutError as err:
            print(err)
    """
    assert green(script) == "too slow\n"


def test_a_watch_ends_what_takes_too_long_and_spares_what_has_ended():
    script = """
        watch = hub.Watch(0.2)

        def wait(name, seconds):
            token = watch.begin()
            try:
                hub.sleep(seconds)
                print(name, "ended")
            except TimeoutError as err:
                print(name, err)
            finally:
                watch.end(token)
            hub.sleep(0.5)
            print(name, "goes on")

        threads = [eventlet.spawn(wait, "slow", 60), eventlet.spawn(wait, "quick", 0.01)]
        for thread in threads:
            thread.wait()
        # It has stopped looking, and begins again.
        print(watch._is_watching, watch._blocks)
        wait("late", 60)
    """
    lines = green(script).splitlines()
    assert lines[:2] == ["quick ended", "slow timed out"]
    assert sorted(lines[2:4]) == ["quick goes on", "slow goes on"]
    assert lines[4:] == ["False {}", "late timed out", "late goes on"]


def test_a_block_that_can_be_interrupted_is_and_what_follows_it_is_not():
    script = """
        block = hub.Interruptible()
        block.interrupt(KeyError("too early"))

        def work():
            try:
                with block:
                    hub.sleep(60)
            except KeyError as err:
                print(err)
                block.interrupt(KeyError("too late"))
            hub.sleep(0.02)
            print("goes on")

        thread = eventlet.spawn(work)
        eventlet.sleep(0.01)
        block.interrupt(KeyError("now"))
        print("returns at once")
        thread.wait()
    """
    assert green(script) == "returns at once\n'now'\ngoes on\n"


def test_an_interrupted_block_waits_for_its_native_thread():
    script = """
        block, log = hub.Interruptible(), []

        def native():
            original_time.sleep(0.1)
            log.append("native work ended")

        def work():
            try:
                with block:
                    threads.run(native)
            except KeyError:
                log.append("interrupted")

        original_time = patcher.original("time")
        thread = eventlet.spawn(work)
        eventlet.sleep(0)
        block.interrupt(KeyError())
        thread.wait()
        print(log)
    """
    assert green(script) == "['native work ended', 'interrupted']\n"


def test_a_lock_excludes_other_greenthreads():
    script = """
        lock = hub.lock()
        inside = []

        def enter(name):
            with lock:
                inside.append(name)
                hub.sleep(0.01)
                inside.append(name)

        started = [tasks.spawn(enter, name) for name in "abc"]
        for task in started:
            task.join()
        print("".join(inside))
    """
    assert green(script) == "aabbcc\n"


def test_background_work_runs_in_a_greenthread_and_logs_its_error():
    script = """
        import logging
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        seen = []
        tasks.spawn(seen.append, 5).join()
        tasks.spawn(lambda: 1 / 0).join()
        print(seen)
    """
    out = green(script)
    assert "ZeroDivisionError" in out
    assert out.endswith("[5]\n")


def test_a_killed_feeder_leaves_no_consumer_running():
    script = """
        seen = []

        def slow(item):
            native_time.sleep(0.03)
            seen.append(item)

        def feed():
            with Fanout([slow, len], depth=2) as fanout:
                while True:
                    fanout.put(b"x")

        threads.run(int)
        before = fds()
        for _ in range(5):
            thread = eventlet.spawn(feed)
            eventlet.sleep(0.05)
            thread.kill()
            try:
                thread.wait()
            except BaseException as err:
                assert type(err).__name__ == "GreenletExit"
            count = len(seen)
            native_time.sleep(0.05)
            assert len(seen) == count
        print(fds() - before)
    """
    assert green(script) == "0\n"


def test_finalizers_inside_of_the_hub_do_not_wait():
    script = """
        from eventlet import hubs
        result = []

        def finalizer():
            result.append(threads.run(get_ident) == get_ident())

        hubs.get_hub().schedule_call_global(0, finalizer)
        eventlet.sleep(0.01)
        print(result)
    """
    assert green(script) == "[True]\n"


def test_names_are_resolved_by_the_system():
    script = """
        print(threads.getaddrinfo("127.0.0.1", 80)[0][4])
    """
    assert green(script) == "('127.0.0.1', 80)\n"
    assert threads.getaddrinfo("127.0.0.1", 80)[0][4] == ("127.0.0.1", 80)


def test_lookups_that_hang_do_not_keep_other_work():
    script = """
        lock = patcher.original("threading").Lock()
        lock.acquire()
        hanging = [eventlet.spawn(threads.look_up, lock.acquire) for _ in range(40)]
        eventlet.sleep(0)
        print(threads.run(os.getpid) == os.getpid())
        while any(not one.dead for one in hanging):
            # Each of them takes the lock from the one before.
            lock.locked() and lock.release()
            eventlet.sleep(0)
        print(all(one.wait() for one in hanging))
    """
    assert green(script) == "True\nTrue\n"


def test_big_work_lets_short_work_go_first():
    script = """
        nice = lambda: os.getpriority(os.PRIO_PROCESS, 0)
        found = []
        with Fanout([lambda item: found.append(nice())] * 2) as fanout:
            fanout.put(b"x")
            fanout.join()
        print(nice(), threads.run(nice), threads.look_up(nice), found)
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    lower = min(19, own + 5)
    assert green(script) == f"{own} {own} {own} [{lower}, {lower}]\n"


def test_threads_of_all_kinds_know_that_they_must_not_wait_in_the_hub():
    script = """
        first = threads.run(hub.may_switch)
        print(first, threads.look_up(hub.may_switch), threads.run(hub.may_switch))
    """
    assert green(script) == "False False False\n"


# -- turns --


class Jobs:
    """Turns whose jobs are names, and which of them run."""

    def __init__(self, **limits):
        self.running, self.begun = {}, []
        self.turns = tasks.Turns(self.run, **limits)

    def run(self, name):
        self.begun.append(name)
        self.running[name] = threading.Event()
        self.running[name].wait(10)
        del self.running[name]

    def add(self, owner, *names):
        for name in names:
            self.turns.reserve(owner).start(name)

    def until(self, *names):
        assert retry.wait_until(lambda: set(self.running) == set(names), BRIEF), self.running

    def end(self, *names):
        for name in names:
            self.running[name].set()

    def finish(self):
        self.turns.close()
        self.end(*list(self.running))


@pytest.fixture
def jobs():
    made = []

    def make(**limits):
        made.append(Jobs(**limits))
        return made[-1]

    yield make
    for each in made:
        each.finish()


def test_owners_take_turns(jobs):
    some = jobs(limit=3, each=2, waiting=100)
    some.add("a", "a1", "a2", "a3", "a4", "a5")
    some.until("a1", "a2")
    some.add("b", "b1", "b2", "b3")
    some.add("c", "c1")
    some.until("a1", "a2", "b1")
    some.end("a1")
    some.until("a2", "b1", "a3")
    some.end("a2")
    some.until("b1", "a3", "b2")
    some.end("b1")
    some.until("a3", "b2", "c1")
    some.end("b2", "c1")
    some.until("a3", "a4", "b3")


def test_nobody_is_no_owner(jobs):
    some = jobs(limit=3, each=1, waiting=2)
    some.add(None, "1", "2", "3", "4", "5")
    some.until("1", "2", "3")
    assert some.turns.reserve(None) is None
    assert some.turns.reserve("a") is None


def test_one_owner_has_half_of_the_room_to_wait(jobs):
    some = jobs(limit=2, each=1, waiting=4)
    some.add("a", "a1", "a2", "a3")
    some.until("a1")
    assert some.turns.reserve("a") is None
    some.add("b", "b1", "b2", "b3")
    some.until("a1", "b1")
    assert some.turns.reserve("c") is None
    some.end("a1")
    some.until("a2", "b1")
    held = some.turns.reserve("c")
    assert some.turns.reserve("c") is None
    held.leave()
    held.leave()
    assert some.turns.reserve("c") is not None


def test_a_job_that_fails_makes_room(jobs, caplog):
    some = jobs(limit=1, each=1, waiting=0)
    some.turns._run = boom
    some.add("a", "a1")
    assert retry.wait_until(lambda: "Background task" in caplog.text, BRIEF)
    assert retry.wait_until(lambda: some.turns.reserve("a") is not None, BRIEF)


def test_closing_returns_what_runs_and_what_waits(jobs):
    some = jobs(limit=1, each=1, waiting=9)
    some.add("a", "a1", "a2")
    some.add("b", "b1")
    some.until("a1")
    assert some.turns.close() == ["a1", "a2", "b1"]
    assert some.turns.reserve("a") is None
    some.end("a1")
    some.until()
    assert some.begun == ["a1"]


# -- out of descriptors --

WITHOUT_DESCRIPTORS = """
    import os, resource, threading
    from glance.streaming import fanout, hub, threads
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if {green}:
        import eventlet
        eventlet.monkey_patch()
        eventlet.sleep(0)
    if {warm}:
        threads.run(int)
    else:
        # What is imported later needs one, too.
        threads._get_pool(threads._SHORT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), hard))
    try:
        os.dup(0)
        raise SystemExit("there was a descriptor left")
    except OSError:
        pass
    assert threads.run(lambda: 7) == 7
    seen = []
    with fanout.Fanout([seen.append, seen.append], 2) as out:
        for item in (b"1", b"2", b"3", b"4"):
            out.put(item)
        out.join()
    assert sorted(seen) == [b"1", b"1", b"2", b"2", b"3", b"3", b"4", b"4"], seen
    if {green}:
        # Others go on while one waits.
        event = hub.native(threading).Event()
        eventlet.spawn_after(0.05, event.set)
        assert threads.run(event.wait, 10)
"""


@pytest.mark.parametrize(("green", "warm"), [(True, True), (True, False), (False, True)])
def test_work_in_threads_needs_no_descriptor(green, warm):
    code = textwrap.dedent(WITHOUT_DESCRIPTORS.format(green=green, warm=warm))
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
