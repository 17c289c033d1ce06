"""The scrape response: the metrics of all workers, added up, in Prometheus's text format (version 0.0.4).

prometheus_client can do the same, but in one piece: a few thousand rules would block the worker's checks for a second.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from operator import add
from pathlib import Path
from typing import NamedTuple

from app.observability.metric_files import entries
from app.observability.metrics import BY_RULE, SHADOW_RULE, WOULD
from app.observability.rule_counts import DEFAULT_SERIES, Pace, RuleCounts
from app.observability.rule_counts import Labels as LabelsOfRule

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

Labels = dict[str, str]
MergeValues = Callable[[float, float], float]
# How to merge the values of two workers, by the mode of a gauge. All others are added up.
MERGE: Mapping[str, MergeValues] = {"livemin": min, "min": min, "livemax": max, "max": max}
LATEST = ("mostrecent", "livemostrecent")
EACH = ("all", "liveall")  # one series per worker


class Value(NamedTuple):
    """The value of one series. `time` selects the latest value of a gauge that keeps only the most recent one."""

    value: float
    time: float


def exposition(directory: Path | None, rule_counts: RuleCounts, pace: Pace) -> bytes:
    """Return the whole text. `directory` holds prometheus_client's files; None if it keeps values in this process.

    `pace` runs all long work, and may let other greenlets run in between.
    """
    files = sorted(directory.glob("*.db")) if directory is not None else []
    lines = chain(_by_rule(rule_counts, pace), _of_files(files, pace))
    return b"".join(iter(lambda: "".join(islice(lines, 500)).encode(), b""))


def _by_rule(rule_counts: RuleCounts, pace: Pace) -> Iterator[str]:
    totals = rule_counts.totals(pace)
    shown = [
        (_braces(_labels_of_rule(labels)), counts, labels is DEFAULT_SERIES.labels)
        for labels, counts in pace(totals.items())
        if not labels.shadow
    ]
    for column, (name, about) in enumerate(BY_RULE):
        yield from _head(name, "counter", about)
        for labels, counts, always in pace(shown):
            # Permits are shown only if there are leases.
            if always or column < 2 or counts[2]:
                yield f"{name}{labels} {counts[column]!r}\n"
    yield from _head(SHADOW_RULE[0], "counter", SHADOW_RULE[1])
    for of_rule, counts in pace(totals.items()):
        if of_rule.shadow:
            for would, count in zip(WOULD, counts, strict=False):
                yield f"{SHADOW_RULE[0]}{_braces(_labels_of_rule(of_rule) | {'would': would})} {count!r}\n"
    for _ in pace(range(len(shown))):  # freeing all in one piece takes some milliseconds
        shown.pop()
        totals.popitem()


def _labels_of_rule(labels: LabelsOfRule) -> Labels:
    return {name: value for name, value in labels._asdict().items() if value and name != "shadow"}


def _of_files(files: Iterable[Path], pace: Pace) -> Iterator[str]:
    families: dict[str, tuple[str, str]] = {}
    samples: defaultdict[str, list[tuple[str, Labels, float]]] = defaultdict(list)
    for (kind, key, place), value in pace(_merged(files, pace).items()):
        family, name, labels, about = json.loads(key)
        families[family] = (kind, about)
        samples[family].append((name, labels | ({"pid": place} if place else {}), value.value))
    for family, (kind, about) in families.items():
        yield from _head(f"{family}_total" if kind == "counter" else family, kind, about)
        shown = _cumulative(family, samples[family], pace) if kind == "histogram" else samples[family]
        for name, labels, number in pace(shown):
            yield f"{name}{_braces(labels)} {number!r}\n"


def _merged(files: Iterable[Path], pace: Pace) -> dict[tuple[str, str, str], Value]:
    """Return values by kind, key and, for values kept per worker, the worker's place."""
    merged: dict[tuple[str, str, str], Value] = {}
    for path in files:
        kind, *mode, place = path.stem.split("_")
        how = mode[0] if mode else "sum"
        merge: MergeValues = MERGE.get(how, add)
        for key, value, time in pace(entries(path)):
            series = kind, key, place if how in EACH else ""
            known = merged.get(series)
            if known is None or (how in LATEST and time > known.time):
                merged[series] = Value(value, time)
            elif how not in LATEST:
                merged[series] = Value(merge(known.value, value), time)
    return merged


def _cumulative(
    family: str, samples: list[tuple[str, Labels, float]], pace: Pace
) -> Iterator[tuple[str, Labels, float]]:
    """Return a histogram's samples in cumulative form. Workers count each bucket separately."""
    buckets: defaultdict[tuple[tuple[str, str], ...], dict[float, tuple[str, float]]] = defaultdict(dict)
    for name, labels, value in pace(samples):
        if "le" not in labels:
            yield name, labels, value
            continue
        others = tuple(label for label in labels.items() if label[0] != "le")
        buckets[others][float(labels["le"])] = labels["le"], value
    for labels, counts in pace(buckets.items()):
        total = 0.0
        for _, (bound, count) in sorted(counts.items()):
            total += count
            yield f"{family}_bucket", dict(labels) | {"le": bound}, total
        yield f"{family}_count", dict(labels), total


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    text = about.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in labels.items()) + "}"
