"""Handlers: callables from a turn to its outcome."""

from cgworker.handlers.adapter import Adapter, AdapterHandler, Output, Record
from cgworker.handlers.command import CommandExit, CommandHandler
from cgworker.handlers.function import FunctionHandler, Handler

__all__ = [
    "Adapter",
    "AdapterHandler",
    "CommandExit",
    "CommandHandler",
    "FunctionHandler",
    "Handler",
    "Output",
    "Record",
]
