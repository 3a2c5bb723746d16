"""Disturb a running stack and report what became of its runs: `python -m bench.drills`.

    python -m bench.drills [--only NAME ...] [--runs 60] [--write] [--list]

Each drill starts a job of quick runs on the emulator, strikes when some runs have ended and others
are at work, and waits until the job has ended. `--only` takes the beginnings of names: `--only
freeze-postgres disk`. `--write` puts the rows into the table of docs/reliability.md. All of them
take most of an hour. The stack is one of its own, with its own ports and data, and ends with the
drills. Disks are filled only as root, who may mount small ones.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from bench.drills.stack import make_root, remove_root
from certification.stack import embedded

if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--time-scale", type=float, default=0.5, help="of the emulator's latency")
    parser.add_argument("--write", action="store_true", help="into docs/reliability.md")
    options = parser.parse_args()
    root = make_root(with_disks=os.geteuid() == 0 and sys.platform == "linux")
    os.environ["MYIA_ROOT"] = str(root)  # before the servers start
    try:
        from bench.drills import run

        run.main(options, run.choose(options.only))
    finally:
        embedded.discard(root)
        remove_root(root)
