"""What the gateway itself counts, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.75, 1.0, 2.0, 5.0)


class Counters:
    """Clients and what they report; everything about frames is counted by the show."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = Gauge(
            "matrix_clients", "Connected clients by role", ["role"], registry=registry
        )
        self.photon = Histogram(
            "matrix_control_to_photon_seconds",
            "From a key event in the page to the paint of the first frame conditioned on it, as the page measured it",
            buckets=_SECONDS,
            registry=registry,
        )
        self.sent = Counter(
            "matrix_sent_bytes", "Bytes of frames sent to clients", registry=registry
        )
        self.dropped = Counter(
            "matrix_viewer_dropped_frames",
            "Frames a viewer did not get because a newer one was there before its link was free",
            registry=registry,
        )
        self.refused = Counter(
            "matrix_refused", "Messages and connections refused", ["what"], registry=registry
        )
