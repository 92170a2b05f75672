"""Prometheus metrics of requests: how many there were, and how long they took."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from attrs import Factory, define
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""The upper bounds of the histogram's buckets, without the last one, which has none."""

_LIMITS = [*map(floatToGoString, BUCKET_SECONDS), "+Inf"]


@define
class _Count:
    """The requests with a method, path and status, and since when they are counted."""

    count: int = 0
    created_at: float = Factory(time.time)


@define
class _Times:
    """How long the requests with a method and path took: how many by bucket, and how long in all."""

    counts: list[int] = Factory(lambda: [0] * len(_LIMITS))
    seconds: float = 0.0
    created_at: float = Factory(time.time)


class RequestMetrics(Collector):
    """Counts and times requests by method, path and status.

    They are counted in plain dicts, and become series when they are scraped. The library's own counters would
    look for the series of each request, and lock it.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], _Count] = defaultdict(_Count)
        self._times: dict[tuple[str, str], _Times] = defaultdict(_Times)

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: its method.
            path: the path of its route.
            status: the status of its answer; 0 if it got none.
            seconds: how long it took.
        """
        self._counts[method, path, status].count += 1
        times = self._times[method, path]
        times.counts[bisect_left(BUCKET_SECONDS, seconds)] += 1
        times.seconds += seconds

    def describe(self) -> Iterator[Metric]:
        """Yield the series as well, for who asks for their names; a registry asks once."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the series; another thread may call it."""
        requests = CounterMetricFamily(
            "cg_requests", "Requests answered", labels=("method", "path", "status")
        )
        for (method, path, status), counted in list(self._counts.items()):
            requests.add_metric((method, path, str(status)), counted.count, counted.created_at)
        yield requests
        seconds = HistogramMetricFamily(
            "cg_request_seconds",
            "Time to the last byte of an answer, waiting included",
            labels=("method", "path"),
        )
        for labels, times in list(self._times.items()):
            buckets = list(zip(_LIMITS, accumulate(times.counts), strict=True))
            seconds.add_metric(labels, buckets, times.seconds)
        for (method, path), times in list(self._times.items()):
            seconds.add_sample(f"{seconds.name}_created", {"method": method, "path": path}, times.created_at)
        yield seconds
