"""Chromium, if there is one on this machine; the tests install none."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """The path of a Chromium: that of CG_TEST_CHROMIUM, or one of the usual names on the PATH."""
    given = os.environ.get("CG_TEST_CHROMIUM")
    return given or next((found for name in NAMES if (found := shutil.which(name))), None)
