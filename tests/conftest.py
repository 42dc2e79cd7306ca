"""Fixtures shared by all tests."""

import os
import sys
from pathlib import Path

import pytest

_MEMORY = 80 * 1024**2
# Ray reads these when it is imported. On a machine with other work its processes take longer to come up.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
os.environ.setdefault("RAY_worker_register_timeout_seconds", "300")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and golden files that stands beside some checkouts; skips without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real images and golden files), which is not part of the project")
    return folder


@pytest.fixture(scope="module")
def cluster():
    """A real Ray cluster of two nodes (``workers``) with a core each on this machine; the first is its head."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        node = {"num_cpus": 1, "object_store_memory": _MEMORY, "include_log_monitor": False}
        bare = {"include_dashboard": False, "no_monitor": True}  # a node must be up within 20 s
        made = Cluster(initialize_head=True, head_node_args={**node, **bare})
        made.workers = [made.head_node, made.add_node(**node)]
        environment.setenv("RAY_ADDRESS", made.address)
        yield made
        ray.shutdown()
        made.shutdown()
