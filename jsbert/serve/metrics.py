"""What a server counts, in the format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""The upper bounds of the histograms of seconds."""

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The upper bounds of the histogram of texts."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one server. No label holds anything that a client wrote."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"jsbert_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"jsbert_{name}", text, registry=registry)

        def histogram(name: str, text: str, *labels: str, bounds: tuple = SECONDS) -> Histogram:
            return Histogram(f"jsbert_{name}", text, labels, registry=registry, buckets=bounds)

        self._requests = counter("requests", "Requests answered.", "route", "status")
        self._seconds = histogram(
            "request_seconds", "Time from the headers to the end of the answer.", "route"
        )
        self._waits = histogram("queue_wait_seconds", "Time that requests wait for the device.")
        self._texts = counter("texts", "Texts computed.")
        self._truncated = counter("truncated_texts", "Texts cut at the model's limit.")
        self._dropped = counter("dropped_requests", "Requests whose client went away.")
        self._rounds = histogram("batch_texts", "Texts computed together.", bounds=COUNTS)
        self._tokens = counter("batch_tokens", "Tokens of the texts computed.")
        self._padding = counter("batch_padding_tokens", "Tokens of padding computed.")
        self._queue_tokens = gauge("queue_tokens", "Tokens that wait or are computed.")
        self._queue_requests = gauge("queue_requests", "Requests that wait or are computed.")
        self._compilations = gauge("compilations", "Programs compiled or read from the cache.")
        self._compile_seconds = gauge("compile_seconds", "Time spent on compiling.")
        self._ready = gauge("ready", "1 if the server takes requests, else 0.")

    def watch(
        self,
        *,
        queue_tokens: Callable[[], float],
        queue_requests: Callable[[], float],
        compilations: Callable[[], float],
        compile_seconds: Callable[[], float],
        ready: Callable[[], float],
    ) -> None:
        """Set the functions that are asked for the values of the gauges."""
        self._queue_tokens.set_function(queue_tokens)
        self._queue_requests.set_function(queue_requests)
        self._compilations.set_function(compilations)
        self._compile_seconds.set_function(compile_seconds)
        self._ready.set_function(ready)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_wait(self, seconds: float) -> None:
        """Count the time that a job waited for the device."""
        self._waits.observe(seconds)

    def count_round(self, num_tokens: int, num_padded_tokens: int, num_texts: int) -> None:
        """Count a round of the worker."""
        self._rounds.observe(num_texts)
        self._texts.inc(num_texts)
        self._tokens.inc(num_tokens)
        self._padding.inc(num_padded_tokens - num_tokens)

    def count_truncated(self, num_texts: int) -> None:
        """Count texts that were cut."""
        self._truncated.inc(num_texts)

    def count_dropped(self) -> None:
        """Count a request whose client went away."""
        self._dropped.inc()

    def text(self) -> bytes:
        """All counters, as Prometheus reads them."""
        return generate_latest(self.registry)
