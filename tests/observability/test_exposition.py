"""The text of a scrape says what prometheus_client's own says of the same files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from app.observability.exposition import exposition
from app.observability.metric_files import FIRST_BYTES, entries
from app.observability.rule_counts import COLUMNS, DEFAULT_SERIES, Labels, RuleCounts, Series
from app.rules.sync.yielding import unpaced

MODES = ("min", "max", "sum", "mostrecent", "all", "livemin", "livemax", "livesum", "livemostrecent", "liveall")
ODD = 'a "quoted" \\ and\nbroken line, \U0001f600'
Samples = dict[tuple[str, str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """By type, name and labels. Fails where a series is given twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (family.type, sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


class Worker:
    """The metrics of this process at one place after the other, as those of several workers."""

    place = "0"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: worker.place))
    yield worker
    values.ValueClass.close_all_files()


def test_it_says_what_the_client_library_says(worker: Worker, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    counter = Counter("things_total", f"Things {ODD}", ["who", "what"], registry=registry)
    histogram = Histogram("size", "Sizes", ["who"], buckets=(0.5, 1, 10), registry=registry)
    summary = Summary("spent_seconds", "Time", registry=registry)
    gauges = [Gauge(f"gauge_{mode}", "A gauge", ["who"], multiprocess_mode=mode, registry=registry) for mode in MODES]
    for number, worker.place in enumerate(("master", "0", "1", "12"), start=1):
        for who in ("one", ODD, f"only {worker.place}"):
            counter.labels(who, "x").inc(number)
            for size in (0.5, 0.75, 11 * number):
                histogram.labels(who).observe(size)
            for gauge in gauges:
                gauge.labels(who).set(10 - number)
        summary.observe(number)
    mark_process_dead("12")
    text = exposition(tmp_path, RuleCounts(), unpaced).decode()
    theirs = CollectorRegistry()
    MultiProcessCollector(theirs)
    expected = samples(generate_latest(theirs).decode())
    assert len(expected) > 100
    assert {key: value for key, value in samples(text).items() if "ratelimiter_" not in key[1]} == expected


def test_files_of_one_that_ended_while_they_were_read_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").touch()  # not written yet
    assert list(entries(tmp_path / "counter_0.db")) == list(entries(tmp_path / "gone.db")) == []


def test_rules_are_shown_by_the_labels_they_have() -> None:
    counts = RuleCounts()
    shown = {
        7: Series(7, Labels("seven", "*")),
        8: Series(8, Labels(ODD, "login", "2")),
        DEFAULT_SERIES.key: DEFAULT_SERIES,
    }
    counts.follow(shown.get)
    counts.of(7).allowed(3)
    counts.of(8).blocked(2)
    counts.of(8).granted(5)
    found = samples(exposition(None, counts, unpaced).decode())
    for name, labels, value in (
        ("allowed", {"client_id": "seven", "endpoint": "*"}, 3),
        ("blocked", {"client_id": "seven", "endpoint": "*"}, 0),
        ("blocked", {"client_id": ODD, "endpoint": "login", "tenant": "2"}, 2),
        ("lease_permits_granted", {"client_id": ODD, "endpoint": "login", "tenant": "2"}, 5),
        ("lease_permits_returned", {"client_id": ODD, "endpoint": "login", "tenant": "2"}, 0),
        ("allowed", DEFAULT_SERIES.labels._asdict() | {"tenant": None}, 0),
    ):
        wanted = frozenset((label, text) for label, text in labels.items() if text)
        assert found["counter", f"ratelimiter_{name}_total", wanted] == value
    assert len(found) == 3 * 2 + 2 * (COLUMNS - 2)  # permits of the one rule that has leases, and of the default


def test_without_room_new_series_are_lost_and_the_others_go_on(
    worker: Worker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter("things_total", "Things", ["number"], registry=CollectorRegistry())
    with no_file_larger_than(4 * FIRST_BYTES):
        for number in range(4_000):
            counter.labels(str(number)).inc(number)
    for _ in range(2):  # the disk has room again, and nothing is mixed up
        counter.labels("0").inc(5)
        counter.labels("3999").inc()
        counter.labels("after").inc()
    gevent.sleep(0)
    [told] = [record.getMessage() for record in caplog.records]
    assert "no room" in told
    assert "counter_0.db" in told
    found = samples(exposition(tmp_path, RuleCounts(), unpaced).decode())
    kept = {dict(key[2])["number"]: value for key, value in found.items() if key[1] == "things_total"}
    assert kept.pop("0") == 10
    assert kept == {str(number): number for number in range(1, 1 + len(kept))}
    assert 1_000 < len(kept) < 3_999


def test_without_room_for_a_file_all_is_lost_and_nobody_dies(
    worker: Worker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with no_file_larger_than(FIRST_BYTES - 1):
        counter = Counter("things_total", "Things", ["number"], registry=CollectorRegistry())
        for number in range(4_000):
            counter.labels(str(number)).inc()
    gevent.sleep(0)
    assert len(caplog.records) == 1
    assert counter.labels("0")._value.get() == 1
    assert "things_total" not in exposition(tmp_path, RuleCounts(), unpaced).decode()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Stands in for a full disk: to allocate blocks beyond this size is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
