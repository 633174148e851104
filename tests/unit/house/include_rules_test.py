"""Rooms see only what stands below them; and the rule would notice."""

import pytest

from tests.unit.house import include_rules
from tests.unit.house.source_tree import SourceFile, describe, read_sources


def test_includes_run_downward():
    violations = [violation for source in read_sources() if source.is_cpp
                  for violation in include_rules.check_includes(source)]
    assert not violations, describe(violations)


def test_links_run_downward():
    lists = [source for source in read_sources() if source.path.endswith("CMakeLists.txt")]
    assert "mnemo_base" in include_rules.targets_by_room(lists)
    violations = include_rules.check_links(lists)
    assert not violations, describe(violations)


@pytest.mark.parametrize("path, include", [
    ("storage/base/bad.cc", '"storage/tier/store.h"'),
    ("storage/codec/bad.h", '"storage/policy/policy.h"'),
    ("storage/tier/bad.h", '"storage/block/directory.h"'),
    ("storage/block/bad.cc", '"server/engine/engine.h"'),
    ("storage/block/bad.cc", "<rocksdb/db.h>"),
    ("storage/tier/bad.cc", "<grpcpp/grpcpp.h>"),
    ("server/engine/bad.cc", '"mnemo/v1/block.pb.h"'),
    ("server/engine/bad.cc", '"server/rpc/block_handler.h"'),
    ("server/observe/bad.cc", '"server/workers/mover.h"'),
    ("server/engine/bad.h", "<rocksdb/slice.h>"),
    ("server/rpc/bad.cc", "<yaml-cpp/yaml.h>"),
    ("client/cpp/bad.cc", '"storage/block/directory.h"'),
    ("server/engine/bad.cc", '"tests/support/fake_clock.h"'),
    ("storage/attic/bad.cc", '"storage/base/bytes.h"'),
])
def test_an_upward_include_is_found(path, include):
    assert include_rules.check_includes(SourceFile(path, f"#include {include}\n"))


@pytest.mark.parametrize("path, include", [
    ("storage/block/good.cc", '"storage/tier/store.h"'),
    ("storage/tier/good.cc", "<rocksdb/db.h>"),
    ("server/rpc/good.cc", '"mnemo/v1/block.grpc.pb.h"'),
    ("server/rpc/good.cc", '"server/engine/engine.h"'),
    ("server/main.cc", '"server/rpc/server.h"'),
    ("tests/unit/storage/tier/good_test.cc", "<rocksdb/db.h>"),
])
def test_a_downward_include_is_left_alone(path, include):
    assert not include_rules.check_includes(SourceFile(path, f"#include {include}\n"))


def test_an_upward_link_is_found():
    lists = [
        SourceFile("storage/base/CMakeLists.txt",
                   "mnemo_library(mnemo_base DEPS\n  absl::status mnemo_tier)"),
        SourceFile("storage/tier/CMakeLists.txt",
                   "mnemo_library(mnemo_tier DEPS mnemo_base)\n"
                   "target_link_libraries(mnemo_tier PRIVATE mnemo_block)"),
        SourceFile("storage/block/CMakeLists.txt", "mnemo_library(mnemo_block DEPS mnemo_tier)"),
    ]
    found = include_rules.check_links(lists)
    assert [violation.path for violation in found] == [
        "storage/base/CMakeLists.txt", "storage/tier/CMakeLists.txt"]
