"""Workers of a bulk inspection that write down what they are given; some do not survive it."""

import json
import os
import sys
import time

import ray

from subspect.inspection.distributed import _Worker

LOSES_WORKERS = "fatal.png"


class NotingWorker(_Worker):
    """Notes what it is given, where, and whether it has imported torch; takes its time over it."""

    def inspect(self, files):
        note = {
            "node": ray.get_runtime_context().get_node_id(),
            "process": os.getpid(),
            "files": [path.name for path, _ in files],
            "torch": "torch" in sys.modules,
            "detector": id(self.inspector),
        }
        notes = self.job.output.parent / "notes"
        notes.mkdir(exist_ok=True)
        with (notes / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")
        if any(path.name == LOSES_WORKERS for path, _ in files):
            os._exit(1)
        time.sleep(0.3)
        return super().inspect(files)
