"""The closing line counts what ran, and a program that dies is not a pass."""

import importlib.util

import pytest

from tests.unit.house.source_tree import ROOT

_spec = importlib.util.spec_from_file_location("run", ROOT / "tests" / "run.py")
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)

CASES = {
    "ok": '<testcase name="a" status="run" result="completed"/>',
    "bad": '<testcase name="b" status="run" result="completed"><failure message="x"/></testcase>',
    "error": '<testcase name="c"><error message="x"/></testcase>',
    "skipped": '<testcase name="d" status="run" result="skipped"><skipped/></testcase>',
    "disabled": '<testcase name="e" status="notrun" result="suppressed"/>',
}


def tally(tmp_path, programs, reports):
    """`programs`: name to CTest's status; `reports`: name to the cases inside, or raw text."""
    junit = tmp_path / "junit"
    junit.mkdir()
    for name, cases in reports.items():
        body = cases if isinstance(cases, str) else "".join(CASES[case] for case in cases)
        (junit / f"{name}.xml").write_text(
            body if isinstance(cases, str) else f"<testsuites><testsuite>{body}</testsuite></testsuites>")
    ctest = tmp_path / "ctest.xml"
    ctest.write_text("<testsuite>" + "".join(
        f'<testcase name="{name}" status="{status}"/>' for name, status in programs.items())
        + "</testsuite>")
    return run.tally_ctest(ctest, junit)


@pytest.mark.parametrize("programs, reports, expected", [
    ({"a": "run"}, {"a": ["ok", "ok", "skipped", "disabled"]}, (2, 0)),
    ({"a": "fail"}, {"a": ["ok", "bad", "error"]}, (1, 2)),
    ({"replay": "run"}, {}, (1, 0)),
    ({"replay": "fail"}, {}, (0, 1)),
    ({"died_after_reporting": "fail"}, {"died_after_reporting": ["ok"]}, (1, 1)),
    ({"died_while_writing": "fail"}, {"died_while_writing": "<testsuites><tes"}, (0, 1)),
    ({"lied": "run"}, {"lied": "<testsuites><tes"}, (0, 1)),
    ({"never_built": "notrun"}, {}, (0, 1)),
    ({"a": "run", "b": "fail"}, {"a": ["ok"], "b": ["bad", "ok"]}, (2, 1)),
    ({}, {}, (0, 0)),
])
def test_programs_are_counted_by_their_cases(tmp_path, programs, reports, expected):
    assert tally(tmp_path, programs, reports) == expected


def test_a_build_without_tests_fails(tmp_path):
    (tmp_path / "CTestTestfile.cmake").write_text("")
    assert run.run_ctest(tmp_path, "", 1) == (0, 1)


def test_a_failing_program_fails_the_run(tmp_path):
    (tmp_path / "CTestTestfile.cmake").write_text(
        'add_test(good "/bin/true")\nadd_test(bad "/bin/false")\n')
    assert run.run_ctest(tmp_path, "", 1) == (1, 1)
