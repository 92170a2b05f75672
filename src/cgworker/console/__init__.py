"""The console: a local web application that shows a project and acts in it, as a consumer of the library."""

from __future__ import annotations

from cgworker.console.app import console_app

__all__ = ["console_app"]
