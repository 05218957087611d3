"""Requests that are over become events in groups."""

import threading

from waiting import until

from otel_analytics.capture.backlog import Backlog


class Taken:
    """What was handed on, group by group."""

    def __init__(self):
        self.groups = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def __call__(self, group):
        self.entered.set()
        assert self.open.wait(10)
        self.groups.append(list(group))


def test_they_wait_for_each_other_but_not_for_long():
    taken = Taken()
    backlog = Backlog(taken)
    for number in range(15):
        backlog.add(number, may_wait=True)
    assert taken.groups == []
    backlog.add(15, may_wait=True)
    assert taken.groups == [list(range(16))]


def test_they_do_not_wait_where_nobody_would_come_for_them():
    taken = Taken()
    backlog = Backlog(taken)
    backlog.add(1, may_wait=True)
    backlog.add(2, may_wait=False)
    assert taken.groups == [[1, 2]]


def test_after_catching_up_nothing_waits():
    taken = Taken()
    backlog = Backlog(taken)
    backlog.add(1, may_wait=True)
    backlog.catch_up()
    backlog.catch_up()
    assert [each for group in taken.groups for each in group] == [1]


def test_a_request_never_waits_for_a_thread_that_catches_up_and_catching_up_waits_for_it():
    taken = Taken()
    backlog = Backlog(taken)
    taken.open.clear()
    backlog.add(0, may_wait=True)
    first = threading.Thread(target=backlog.catch_up)
    first.start()
    assert taken.entered.wait(10)
    for number in range(1, 40):
        backlog.add(number, may_wait=True)  # would not return
    second = threading.Thread(target=backlog.catch_up)
    second.start()
    assert taken.groups == []
    taken.open.set()
    for thread in (first, second):
        thread.join(10)
    until(lambda: sorted(each for group in taken.groups for each in group) == list(range(40)))


def test_a_request_may_end_while_others_are_handed_on():
    """As when the garbage collector closes one that was abandoned, on the same thread."""
    taken = []

    def take(group):
        taken.extend(group)
        if taken == [1]:
            backlog.add(2, may_wait=False)

    backlog = Backlog(take)
    backlog.add(1, may_wait=False)
    assert taken == [1, 2]
