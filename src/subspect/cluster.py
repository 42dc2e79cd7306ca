"""Ray: joining a cluster, and what a piece of work needs of one of its machines.

The cluster is the one that the environment variable ``RAY_ADDRESS`` names. Without it, Ray joins the cluster
that was started last on this machine and still runs, and starts one here only if there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resources:
    """What a cell or worker needs of a machine; Ray runs as many at once as fit.

    Attributes:
        cpus: Cores; it gets as many threads.
        gpus: Devices, or a share of one.
    """

    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.gpus < 0:
            raise ValueError(
                f"work on a cluster needs a core (or a share of one) and at least 0 GPUs, got {self.cpus:g} and"
                f" {self.gpus:g}"
            )


def join_cluster() -> Any:
    """Joins a cluster, or starts one here.

    Returns:
        The module ``ray``.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: There is no cluster where ``RAY_ADDRESS`` says.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--executor ray needs Ray: pip install 'subspect[ray]'") from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    return ray


def room_for(ray: Any, resources: Resources) -> int:
    """How many pieces of work the cluster's machines hold at once.

    Raises:
        ValueError: No machine holds any.
    """
    wanted = {kind: n for kind, n in (("CPU", resources.cpus), ("GPU", resources.gpus)) if n}
    room = sum(
        min(int(node["Resources"].get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items())
        for node in ray.nodes()
        if node["Alive"]
    )
    if not room:
        raise ValueError(
            f"no machine of the cluster has {resources.cpus:g} cores and {resources.gpus:g} GPUs; ask for less,"
            " or start machines that have"
        )
    return room
