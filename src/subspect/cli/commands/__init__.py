"""What each command does: it calls the room that does the work, and prints. Heavy imports wait until then."""

from __future__ import annotations

from collections.abc import Callable

from jsonargparse import Namespace

from subspect.cli.commands.data import do_check, do_demo, do_surfaces
from subspect.cli.commands.exchange import do_config, do_export, do_import_draem, do_import_dsr
from subspect.cli.commands.judging import do_calibrate, do_evaluate, do_inspect, do_probe
from subspect.cli.commands.measuring import do_benchmark, do_profile, do_report
from subspect.cli.commands.training import do_pretrain, do_pretrain_teacher, do_train

COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "surfaces": do_surfaces,
    "check": do_check,
    "train": do_train,
    "evaluate": do_evaluate,
    "inspect": do_inspect,
    "calibrate": do_calibrate,
    "probe": do_probe,
    "benchmark": do_benchmark,
    "report": do_report,
    "profile": do_profile,
    "export": do_export,
    "pretrain": do_pretrain,
    "pretrain-teacher": do_pretrain_teacher,
    "import-dsr": do_import_dsr,
    "import-draem": do_import_draem,
    "config": do_config,
    "demo": do_demo,
}
