# ruff: noqa
# mypy: ignore-errors
import fcntl, contextlib
@contextlib.contextmanager
def alone():
    with open("work/gpu.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try: yield
        finally: fcntl.flock(f, fcntl.LOCK_UN)
