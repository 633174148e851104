#!/usr/bin/env python3
"""Runs the tests of a build folder and closes with 'N passed, N failed'.

CTest runs the programs; GoogleTest's own XML tells how many cases each held,
and a program that dies, or that says it failed without naming a case, counts
as one failed case. With --pytest, the Python tests follow. The exit code is 0
only if something ran and nothing failed.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent


def count_cases(junit: pathlib.Path) -> tuple[int, int]:
    """Passed and failed cases of a JUnit file; skipped ones are neither."""
    passed = failed = 0
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif not skipped:
            passed += 1
    return passed, failed


def tally_ctest(ctest_xml: pathlib.Path, junit_folder: pathlib.Path) -> tuple[int, int]:
    """Adds up CTest's programs by the cases inside them."""
    passed = failed = 0
    for program in ElementTree.parse(ctest_xml).getroot().iter("testcase"):
        program_ok = program.get("status") == "run"
        cases = junit_folder / f"{program.get('name')}.xml"
        inside = (0, 0)
        if cases.exists():
            try:
                inside = count_cases(cases)
            except ElementTree.ParseError:
                program_ok = False  # it died while writing
        if program_ok and inside == (0, 0):
            inside = (1, 0)  # a program without GoogleTest
        elif not program_ok and inside[1] == 0:
            inside = (inside[0], 1)
        passed += inside[0]
        failed += inside[1]
    return passed, failed


def run_ctest(build: pathlib.Path, labels: str, jobs: int) -> tuple[int, int]:
    junit_folder = build / "junit"
    shutil.rmtree(junit_folder, ignore_errors=True)
    junit_folder.mkdir(parents=True)
    report = build / "ctest.xml"
    report.unlink(missing_ok=True)
    command = ["ctest", "--test-dir", str(build), "-j", str(jobs), "--output-on-failure",
               "--no-tests=error", "--output-junit", str(report)]
    if labels:
        command += ["-L", f"^{labels}$"]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if not report.exists():
        return 0, 1
    passed, failed = tally_ctest(report, junit_folder)
    return passed, max(failed, int(code != 0))


def run_pytest(build: pathlib.Path, python: str) -> tuple[int, int]:
    report = build / "pytest.xml"
    report.unlink(missing_ok=True)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = str(ROOT / "client" / "python")
    environment.setdefault("MNEMOD_BINARY", str(build / "server" / "mnemod"))
    environment.setdefault("MNEMOCTL_BINARY", str(build / "client" / "cli" / "mnemoctl"))
    code = subprocess.run(
        [python, "-m", "pytest", "-q", f"--junit-xml={report}", "tests"],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    if not report.exists():
        return 0, 1
    passed, failed = count_cases(report)
    return passed, max(failed, int(code != 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--labels", default="", help="only CTest programs with this label")
    parser.add_argument("--pytest", metavar="PYTHON", help="run tests/**/*.py with it as well")
    options = parser.parse_args()
    build = options.build.resolve()

    passed, failed = run_ctest(build, options.labels, options.jobs)
    if options.pytest:
        # Not resolved: a virtual environment is known by the path of its link.
        python_passed, python_failed = run_pytest(build, str(ROOT / options.pytest))
        passed += python_passed
        failed += python_failed
    sys.stdout.flush()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed > 0 and failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
