"""`python -m certification.emulator`: the emulator from the command line, without Django."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from argparse import Namespace

from certification.emulator import process, scenario
from certification.emulator.calls import Options
from certification.emulator.latency import Timing
from certification.emulator.server import Emulator


def port(text: str) -> int:
    """An option's TCP port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port: it must be a whole number between 0 and 65535"
        )
    return int(text)


def duration(text: str) -> float:
    """An option's number that stands for, or scales, a time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 0")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, the same for this module and for `manage.py bedrock_emulator`."""
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


def run(given: Namespace) -> None:
    """Serves with the options of `add_arguments` until told to stop. Raises ScenarioError,
    CannotListen.
    """
    options = Options(seed=given.seed, timing=Timing(given.time_scale, given.fixed_latency_ms))
    emulator = Emulator(
        scenario.load(given.scenario), options, sys.stdout if given.access_log else None
    )
    process.serve(
        emulator,
        given.host,
        given.port,
        lambda url: print(process.ready_lines(url, emulator), flush=True),
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a stop, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m certification.emulator", description=__doc__)
    add_arguments(parser)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        run(given)
    except (scenario.ScenarioError, process.CannotListen) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
