"""`python -m certification.emulator`: the emulator from the command line, without Django."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from argparse import Namespace

from certification.emulator import process, scenario
from certification.emulator.calls import EmulatorOptions
from certification.emulator.latency import Latency
from certification.emulator.server import Emulator


def port(text: str) -> int:
    """Parse an option's TCP port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port: it must be a whole number between 0 and 65535"
        )
    return int(text)


def duration(text: str) -> float:
    """Parse an option's number that is, or scales, a time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 0")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, the same for this module and for `manage.py bedrock_emulator`."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    parser.add_argument(
        "--port", type=port, default=4599, help="port; 0 takes any free one (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="same seed, same answers (default %(default)s)"
    )
    parser.add_argument(
        "--time-scale",
        type=duration,
        default=1.0,
        help="1 answers at the recorded speed, 0 at once (default %(default)s)",
    )
    parser.add_argument(
        "--scenario", default="default", help="name of a shipped scenario or path of a .toml file"
    )
    parser.add_argument(
        "--fixed-latency-ms",
        type=duration,
        default=None,
        help="every runtime call takes exactly this long",
    )
    parser.add_argument("--access-log", action="store_true", help="print one line per call")


def run(options: Namespace) -> None:
    """Serve with the options of `add_arguments` until a signal ends it.

    Raises ScenarioError, CannotListen.
    """
    emulator_options = EmulatorOptions(
        seed=options.seed,
        latency=Latency(options.time_scale, options.fixed_latency_ms),
        # not an option: command lines can be read by everybody on the machine
        control_secret=os.environ.get("EMULATOR_CONTROL_SECRET", ""),
    )
    emulator = Emulator(
        scenario.load(options.scenario),
        emulator_options,
        sys.stdout if options.access_log else None,
    )
    process.serve(
        emulator,
        options.host,
        options.port,
        lambda url: print(process.ready_lines(url, emulator), flush=True),
    )


def main(arguments: list[str] | None = None) -> int:
    """Return exit code 0 after a stop, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m certification.emulator", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        run(options)
    except (scenario.ScenarioError, process.CannotListen) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
