"""The background delivery, with a stand-in for the exporter and its own clock's small intervals."""

import contextlib
import logging
import os
import random
import threading
import time
import warnings
from collections import Counter

import pytest
from backend import make_event
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from waiting import until

from otel_analytics.errors import StreamUnavailable
from otel_analytics_exporters.delivery import BUFFER_FULL, SHUTDOWN, Delivery

DOWN = StreamUnavailable("Redis at redis://somewhere: gone")
FOREVER = 1_000_000
LOGGER = "otel_analytics_exporters.delivery"


class Sink:
    """Takes what is sent, after as many failures as it is told."""

    def __init__(self):
        self.attempts = []
        self.sent = []
        self.reports = []
        self.failures = 0
        self.error = DOWN
        self.rejected = {}
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.disconnected_by = None
        self.traced = False

    def send(self, events, dropped):
        self.attempts.append(list(events))
        self.traced = self.traced or is_instrumentation_enabled()
        self.entered.set()
        self.open.wait(10)
        if self.failures:
            self.failures -= 1
            raise self.error
        self.sent.extend(events)
        if dropped:
            self.reports.append(dict(dropped))
        return self.rejected if events else {}

    def disconnect(self):
        self.disconnected_by = threading.current_thread()


class Counts:
    """An observer."""

    def __init__(self):
        self.events = Counter()
        self.waiting = []

    def accepted(self, events):
        self.events["accepted"] += events

    def dropped(self, reason, events):
        self.events[reason] += events

    def buffered(self, events):
        self.waiting.append(events)


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def make(sink, counts):
    """Deliveries that end with the test."""
    made = []

    def make(*, buffer_size=100, batch_size=2, interval_seconds=0.01, **others):
        delivery = Delivery(
            sink,
            buffer_size=buffer_size,
            batch_size=batch_size,
            interval_seconds=interval_seconds,
            observer=counts,
            **others,
        )
        made.append(delivery)
        return delivery

    yield make
    sink.open.set()
    sink.failures = 0
    for delivery in made:
        delivery.close(5)


def events(count):
    return [make_event() for _ in range(count)]


def deliveries():
    return [each for each in threading.enumerate() if each.name == "otel-analytics-delivery"]


def test_nothing_runs_before_the_first_event_and_one_thread_after_it(make, sink):
    before = len(deliveries())
    delivery = make()
    assert len(deliveries()) == before
    given = events(3)
    assert all(delivery.offer(event) for event in given)
    assert len(deliveries()) == before + 1
    assert all(thread.daemon for thread in deliveries())
    assert delivery.flush(5)
    assert sink.sent == given


def test_events_offered_together_are_taken_as_far_as_there_is_room(make, sink, counts):
    sink.open.clear()
    delivery = make(buffer_size=5, batch_size=5, interval_seconds=60)
    given = events(7)
    assert delivery.offer(*given[:3]) == 3
    assert delivery.offer(*given[3:]) == 2
    sink.open.set()
    assert delivery.flush(5)
    assert sink.sent == given[:5]
    until(lambda: counts.events == {"accepted": 5, BUFFER_FULL: 2})
    delivery.close(5)
    assert delivery.offer(*given) == 0
    assert counts.events[SHUTDOWN] == 7


@pytest.mark.parametrize("end", ["flush", "close"])
def test_what_others_hold_back_is_there_in_time(make, sink, end):
    held = events(3)

    def refill():
        given, held[:] = list(held), []
        delivery.offer(*given)

    given = list(held)
    delivery = make(interval_seconds=60, refill=refill)
    delivery.start()
    getattr(delivery, end)(5)
    assert sink.sent == given


def test_what_others_hold_back_does_not_wait_as_long_as_events_may(make, sink):
    asked = []
    delivery = make(interval_seconds=60, batch_size=10, refill=lambda: asked.append(1))
    delivery.offer(make_event())
    until(lambda: len(asked) >= 2)
    assert sink.attempts == []


def test_what_others_hold_back_to_the_very_last_is_counted(make, counts):
    def refill():
        if not delivery._thread.is_alive():
            delivery.offer(make_event())

    delivery = make()
    delivery.start()
    delivery._refill = refill
    delivery.close(5)
    assert counts.events == {SHUTDOWN: 1}


def test_what_others_hold_back_is_asked_for_at_every_interval_also_in_an_outage(make, sink):
    asked = []
    delivery = make(interval_seconds=0.01, refill=lambda: asked.append(len(sink.attempts)))
    assert not delivery.is_running
    delivery.start()
    assert delivery.is_running
    until(lambda: len(asked) > 2)
    sink.failures = 3
    delivery.offer(make_event())
    until(lambda: {1, 2, 3} <= set(asked))


def test_a_full_batch_waits_for_nothing_and_a_part_of_one_for_the_interval(make, sink, counts):
    delivery = make(batch_size=3, interval_seconds=0.2)
    given = events(4)
    for event in given:
        delivery.offer(event)
    until(lambda: sink.sent == given[:3], 0.15)
    until(lambda: sink.sent == given)
    assert sink.attempts == [given[:3], given[3:]]
    until(lambda: counts.events == {"accepted": 4})
    assert counts.waiting[-1] == 0


def test_a_batch_that_failed_is_sent_again_as_it_was(make, sink, counts, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    random.seed(42)
    state = random.getstate()
    sink.failures = 3
    sink.open.clear()
    delivery = make()
    given = events(5)
    for event in given:
        delivery.offer(event)
    sink.open.set()
    until(lambda: len(sink.sent) == 5)
    first, *again = sink.attempts[:4]
    assert all(batch == first for batch in again)
    assert all(ours is theirs for batch in again for ours, theirs in zip(batch, given, strict=False))
    assert sink.sent == given
    assert counts.events == {"accepted": 5}
    assert random.getstate() == state
    warning, info = caplog.records
    assert warning.levelname == "WARNING"
    assert warning.getMessage() == f"otel-analytics: {DOWN}; 5 events wait and are tried again"
    assert (info.levelname, info.getMessage()) == ("INFO", "otel-analytics: events are being delivered again")


def test_what_the_exporter_does_is_not_traced(make, sink):
    make().offer(make_event())
    until(lambda: sink.sent)
    assert not sink.traced


def test_the_buffer_counts_what_is_being_sent_and_reports_what_did_not_fit(make, sink, counts):
    sink.open.clear()
    delivery = make(buffer_size=4, batch_size=2)
    given = events(7)
    assert [delivery.offer(event) for event in given[:2]] == [True, True]
    sink.entered.wait(5)
    assert [delivery.offer(event) for event in given[2:]] == [True, True, False, False, False]
    sink.open.set()
    assert delivery.flush(5)
    assert sink.sent == given[:4]
    assert sink.reports == [{"buffer_full": 3}]
    assert counts.events == {"accepted": 4, "buffer_full": 3}


def test_drops_are_reported_where_no_further_event_comes(make, sink, counts):
    sink.rejected = {"rejected": 1}
    delivery = make()
    for event in events(2):
        delivery.offer(event)
    until(lambda: sink.reports)
    assert sink.reports == [{"rejected": 1}]
    assert sink.attempts[-1] == []
    assert counts.events == {"accepted": 1, "rejected": 1}


def test_drops_are_reported_at_the_close(make, sink):
    sink.rejected = {"rejected": 2}
    delivery = make(interval_seconds=60)
    delivery.offer(make_event())
    delivery.offer(make_event())
    assert delivery.close(5)
    assert sink.reports == [{"rejected": 2}]


def test_a_report_that_failed_is_made_again_and_only_once_with_success(make, sink):
    sink.rejected = {"rejected": 1}
    sink.error = DOWN
    delivery = make()
    delivery.offer(make_event())
    until(lambda: sink.sent)
    sink.failures = 2
    until(lambda: sink.reports)
    time.sleep(0.05)
    assert sink.reports == [{"rejected": 1}]


def test_a_failure_that_nobody_foresaw_costs_one_batch_and_one_line(make, sink, counts, caplog):
    sink.error = ValueError("a bug")
    sink.failures = 6
    delivery = make(batch_size=2)
    given = events(6)
    for event in given:
        delivery.offer(event)
    assert delivery.flush(5)
    assert sink.attempts[:6] == [given[:2]] * 3 + [given[2:4]] * 3
    assert sink.sent == given[4:]
    assert counts.events == {"accepted": 2, "export_failed": 4}
    assert sink.reports == [{"export_failed": 4}]
    (record,) = caplog.records
    assert record.getMessage() == "otel-analytics: 2 events cannot be delivered and are dropped"
    assert record.exc_info[1] is sink.error


def test_many_short_outages_are_not_many_lines(make, sink, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    delivery = make(batch_size=1)
    for _ in range(4):
        sink.failures = 1
        delivery.offer(make_event())
        assert delivery.flush(5)
    assert len(sink.attempts) == 8
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_flush_waits_for_what_was_offered_and_not_for_what_comes_later(make, sink):
    delivery = make(batch_size=1, interval_seconds=60)
    assert delivery.flush(0)
    sink.open.clear()
    delivery.offer(make_event())
    done = []
    flush = threading.Thread(target=lambda: done.append(delivery.flush(5)))
    flush.start()
    sink.entered.wait(5)
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            delivery.offer(make_event())
            time.sleep(0.001)

    traffic = threading.Thread(target=go_on)
    traffic.start()
    sink.open.set()
    flush.join(2)
    stop.set()
    traffic.join()
    assert done == [True]


def test_flush_does_not_wait_for_the_interval(make, sink):
    delivery = make(batch_size=100, interval_seconds=60)
    delivery.offer(make_event())
    began = time.monotonic()
    assert delivery.flush(5)
    assert time.monotonic() - began < 1
    assert len(sink.sent) == 1


def test_flush_and_close_in_an_outage_keep_their_time_and_do_not_hammer(make, sink, counts, caplog):
    sink.failures = FOREVER
    delivery = make(batch_size=2)
    for event in events(5):
        delivery.offer(event)
    began = time.monotonic()
    assert not delivery.flush(0.4)
    assert 0.4 <= time.monotonic() - began < 0.8
    began = time.monotonic()
    assert delivery.close(0.4)
    assert 0.4 <= time.monotonic() - began < 0.9
    assert len(sink.attempts) < 16
    assert counts.events == {"shutdown": 5}
    assert not delivery.offer(make_event())
    assert counts.events == {"shutdown": 6}
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert caplog.records[-1].getMessage() == (
        "otel-analytics: 5 events could not be delivered before the application ended"
    )
    assert sink.disconnected_by


def test_close_delivers_the_rest_and_ends_the_thread(make, sink, counts):
    delivery = make(batch_size=2, interval_seconds=60)
    given = events(5)
    for event in given:
        delivery.offer(event)
    thread = deliveries()[-1]
    assert delivery.close(5)
    assert sink.sent == given
    assert counts.events == {"accepted": 5}
    assert sink.disconnected_by is thread
    assert not thread.is_alive()
    assert delivery.close(5)
    assert counts.events == {"accepted": 5}


def test_close_of_one_that_never_ran_is_nothing(make, sink):
    assert make().close(5)
    assert sink.attempts == []
    assert sink.disconnected_by is None


def test_an_attempt_that_outlasts_the_close_is_counted_once(make, sink, counts):
    sink.open.clear()
    delivery = make(batch_size=1)
    delivery.offer(make_event())
    sink.entered.wait(5)
    assert not delivery.close(0.05)
    assert not delivery.close(5)  # the time for it is over, so this one does not wait
    sink.open.set()
    until(lambda: sink.disconnected_by)
    assert delivery.close(5)
    assert counts.events == {"shutdown": 1}


def test_every_event_offered_while_it_closes_is_delivered_or_counted(make, sink, counts):
    for _ in range(30):
        sink.sent.clear()
        counts.events.clear()
        delivery = make(batch_size=3, buffer_size=FOREVER, interval_seconds=0.001)
        begin = threading.Barrier(3)
        taken = []

        def offer(delivery=delivery, begin=begin, taken=taken):
            begin.wait(5)
            taken.extend(delivery.offer(make_event()) for _ in range(200))

        threads = [threading.Thread(target=offer) for _ in range(2)]
        for thread in threads:
            thread.start()
        begin.wait(5)
        assert delivery.close(5)
        for thread in threads:
            thread.join()
        assert len(sink.sent) == counts.events["accepted"] == taken.count(True)
        assert counts.events["shutdown"] == taken.count(False)
        assert len(taken) == 400


def test_idle_it_does_next_to_nothing(make, sink):
    delivery = make(interval_seconds=0.05)
    delivery.offer(make_event())
    until(lambda: sink.sent)
    began = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - began < 0.1
    assert len(sink.attempts) == 1


def test_without_a_thread_to_be_had_the_caller_does_not_notice(make, sink, monkeypatch, caplog):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    delivery = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert delivery.offer(make_event())
        assert delivery.offer(make_event())
    assert [record.getMessage() for record in caplog.records] == [
        "otel-analytics: no thread to deliver events: can't start new thread"
    ]
    assert delivery.offer(make_event())
    until(lambda: len(sink.sent) == 3)


def test_a_forked_child_begins_empty_whatever_the_parent_was_doing(make, sink, counts):
    sink.failures = FOREVER
    delivery = make(batch_size=2, interval_seconds=0.01)
    theirs = events(3)
    for event in theirs:
        delivery.offer(event)
    until(lambda: sink.attempts)
    reader, writer = os.pipe()
    with delivery._changed:  # as it may be when another thread of the parent forks
        child = fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                sink.failures = 0
                ours = events(2)
                for event in ours:
                    delivery.offer(event)
                good = delivery.close(5) and sink.sent == ours and counts.events["accepted"] == 2
                os.write(writer, b"good" if good else b"bad")
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"good"
    assert os.waitpid(child, 0)[1] == 0
    sink.failures = 0
    assert delivery.flush(5)
    assert sink.sent == theirs
    assert counts.events == {"accepted": 3}


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of what is tested here
        return os.fork()
