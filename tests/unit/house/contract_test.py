"""The contract stays compatible and commented; and a breach would be noticed."""

import pytest

from tests.unit.house import contract

BASE = """syntax = "proto3";
package mnemo.v1;
// What is asked.
message Ask {
  // Whom.
  string name = 1;
  // Which ones.
  repeated uint64 ids = 2;
  // How.
  optional Mode mode = 3;
  oneof by {
    // By key.
    bytes key = 4;
    // By digest.
    bytes digest = 5;
  }
}
// How to answer.
enum Mode {
  // Not said.
  MODE_UNSPECIFIED = 0;
  // At once.
  MODE_FAST = 1;
}
// Answers.
service Oracle {
  // Answers once.
  rpc One(Ask) returns (Ask);
  // Answers often.
  rpc Many(Ask) returns (stream Ask);
}
"""


def load(tmp_path, text):
    folder = tmp_path / "mnemo" / "v1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oracle.proto").write_text(text)
    return contract.load_files(tmp_path)


def compare_with_base(tmp_path, text):
    accepted = contract.describe_contract(load(tmp_path, BASE))
    return contract.compare(accepted, contract.describe_contract(load(tmp_path, text)))


def test_the_contract_is_compatible_with_what_was_accepted():
    current = contract.describe_contract(contract.load_files(contract.ROOT / "proto"))
    broken, added = contract.compare(contract.read_snapshot(), current)
    assert not broken, "incompatible with proto/mnemo/v1/contract.json:\n" + "\n".join(broken)
    assert not added, "run `make contract-accept` to record:\n" + "\n".join(added)


def test_everything_in_the_contract_has_a_comment():
    uncommented = contract.find_uncommented(contract.load_files(contract.ROOT / "proto"))
    assert not uncommented, "\n" + "\n".join(uncommented)


@pytest.mark.parametrize("old, new", [
    ("string name = 1", "bytes name = 1"),
    ("string name = 1", "string name = 9"),
    ("string name = 1", "string title = 1"),
    ("repeated uint64 ids", "uint64 ids"),
    ("optional Mode mode", "Mode mode"),
    ("  string name = 1;\n", "  reserved 1;\n"),
    ("    // By digest.\n    bytes digest = 5;\n  }\n", "  }\n  // By digest.\n  bytes digest = 5;\n"),
    ("string name = 1", 'string name = 1 [json_name = "title"]'),
    ("MODE_FAST = 1", "MODE_FAST = 2"),
    ("MODE_FAST = 1", "MODE_QUICK = 1"),
    ("  // At once.\n  MODE_FAST = 1;\n", ""),
    ("  // Answers once.\n  rpc One(Ask) returns (Ask);\n", ""),
    ("rpc Many(Ask) returns (stream Ask)", "rpc Many(Ask) returns (Ask)"),
    ("rpc One(Ask)", "rpc One(stream Ask)"),
    ("service Oracle", "service Sibyl"),
    ("package mnemo.v1", "package mnemo.v2"),
])
def test_an_incompatible_change_is_found(tmp_path, old, new):
    assert old in BASE
    broken, _ = compare_with_base(tmp_path, BASE.replace(old, new))
    assert broken


@pytest.mark.parametrize("old, new", [
    ("  string name = 1;\n", "  string name = 1;\n  // More.\n  string more = 6;\n"),
    ("  MODE_FAST = 1;\n", "  MODE_FAST = 1;\n  // Later.\n  MODE_SLOW = 2;\n"),
    ("// Answers.\n", "// New.\nmessage New {}\n// Answers.\n"),
    ("  // Answers once.\n", "  // Answers never.\n  rpc None(Ask) returns (Ask);\n  // Answers once.\n"),
])
def test_an_addition_is_compatible_and_told(tmp_path, old, new):
    assert old in BASE
    broken, added = compare_with_base(tmp_path, BASE.replace(old, new))
    assert not broken
    assert added


def test_the_same_contract_is_no_change(tmp_path):
    assert compare_with_base(tmp_path, BASE.replace("// Whom.", "// Who.")) == ([], [])


@pytest.mark.parametrize("comment, name", [
    ("// What is asked.\n", "Ask"),
    ("  // Whom.\n", "Ask.name"),
    ("    // By key.\n", "Ask.key"),
    ("// How to answer.\n", "Mode"),
    ("  // At once.\n", "Mode.MODE_FAST"),
    ("// Answers.\n", "Oracle"),
    ("  // Answers once.\n", "Oracle.One"),
])
def test_a_missing_comment_is_found(tmp_path, comment, name):
    assert not contract.find_uncommented(load(tmp_path, BASE))
    assert comment in BASE
    found = contract.find_uncommented(load(tmp_path, BASE.replace(comment, "")))
    assert found == [f"mnemo/v1/oracle.proto: {name}"]
