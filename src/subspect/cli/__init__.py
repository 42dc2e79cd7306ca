"""The command line: ``arguments`` says what can be said, ``commands`` what is done; this runs one of them."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from subspect.cli.answers import EXIT_FAILED, EXIT_TERMINATED, how_to_go_on
from subspect.cli.arguments import build_parser
from subspect.cli.commands import COMMANDS
from subspect.cli.values import check_folder

_WRITE_FILES = ("profile", "pretrain-teacher")
"""Commands whose ``--output`` is a file; that of all others is a folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after ``subspect``; None takes those of the process.

    Returns:
        The exit code: 0 when all went well, 1 when nothing could be done, 2 when parts failed, 143 when
        SIGTERM stopped it. Words that cannot be understood exit with 2, too, as command lines do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # tables and dots must not fail on an old terminal
    parsed = build_parser().parse_args(arguments)
    command = str(parsed.subcommand)
    given = parsed[command]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("subspect").setLevel(logging.INFO)
    try:
        if given.get("output") is not None and command not in _WRITE_FILES:
            check_folder(given.output)
        return int(COMMANDS[command](given))
    except (ValueError, OSError) as error:
        print(f"subspect {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        print(f"subspect {command}: {error.name} is not installed: {_advice(command)}", file=sys.stderr)
        return EXIT_FAILED
    except (KeyboardInterrupt, SystemExit) as stop:
        print(f"subspect {command}: stopped{how_to_go_on(command)}", file=sys.stderr)
        # Lightning makes SIGTERM an exit without a code, Ray one with the signal's number.
        terminated = isinstance(stop, SystemExit) and stop.code in (None, signal.SIGTERM)
        return EXIT_TERMINATED if terminated else EXIT_FAILED


def _advice(command: str) -> str:
    """How to get what a command needs and an installation for inspecting with exports lacks."""
    return f"pip install 'subspect[{'export' if command == 'export' else 'train'}]'"
