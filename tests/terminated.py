"""SIGTERM, as a scheduler sends it, within the process of the tests."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminated() -> Iterator[None]:
    """Sends SIGTERM over and over while the block runs; whoever handles none is left alone."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.05):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGTERM, before)
