#!/usr/bin/env python3
"""kill -9 and power loss, CYCLES times each, against an oracle of every class.

Runs the program crash_store of a build folder. With --seed a run is repeated;
the seed of every run is printed.
"""

import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=20, help="of each kind; 1 to 1,000,000")
    parser.add_argument("--seed", type=int, help="of an earlier run")
    parser.add_argument("--keep", action="store_true", help="leave the data of a failed run")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    if not 1 <= options.cycles <= 1_000_000:
        parser.error(f"--cycles: {options.cycles} is not in [1, 1000000]")
    program = options.build / "tests" / "stress" / "crash_store"
    if not program.exists():
        parser.error(f"{program} is not built: make build")
    command = [str(program), "--cycles", str(options.cycles), "--power-cycles", str(options.cycles)]
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    if options.keep:
        command.append("--keep")
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
