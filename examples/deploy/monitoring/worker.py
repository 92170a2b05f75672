"""A worker whose metrics Prometheus scrapes at http://127.0.0.1:9464/metrics.

pip install 'cgworker[otel]' opentelemetry-exporter-prometheus
python worker.py
"""

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from cgworker import Turn, Worker, instrument, run

desk = Worker.from_profile("acme/desk")


@desk.turn()
async def answer(turn: Turn) -> dict[str, str]:
    """Answer a turn."""
    return {"text": f"{turn.ref} is done"}


instrument(desk, meter_provider=MeterProvider([PrometheusMetricReader()]))

if __name__ == "__main__":
    start_http_server(9464, addr="127.0.0.1")
    run(desk)
