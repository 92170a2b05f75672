"""Work of the soak in processes that its handlers fork: one that is ended by SIGTERM, and a pool."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor

_FORK = multiprocessing.get_context("fork")
_LOOK_SECONDS = 0.5


def square_in_a_pool(number: int) -> int:
    """The square, from another process; and a further process, that is ended as one does."""
    with ProcessPoolExecutor(1, mp_context=_FORK, initializer=_end_with_parent) as pool:
        squared = pool.submit(_square, number)
        child = _FORK.Process(target=_sleep)
        child.start()
        child.terminate()
        child.join(5)
        if child.exitcode != -15:
            raise RuntimeError(f"SIGTERM did not end a forked child: {child.exitcode}")
        return squared.result(20)


def _square(number: int) -> int:
    return number**2


def _sleep() -> None:
    time.sleep(8)


def _end_with_parent() -> None:
    """A pool's process waits for ever for work where its parent was killed, which is what happens here."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
