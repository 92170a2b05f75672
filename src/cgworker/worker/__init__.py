"""The worker runtime: claim, run the handler, settle, and go on whatever happens."""

from cgworker.worker.options import WorkerOptions
from cgworker.worker.process.serve import run
from cgworker.worker.routing import Middleware, handles
from cgworker.worker.turn_report import TurnReport
from cgworker.worker.worker import Lifespan, Worker

__all__ = ["Lifespan", "Middleware", "TurnReport", "Worker", "WorkerOptions", "handles", "run"]
