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
    ("storage/context/bad.cc", '"storage/block/directory.h"'),
    ("storage/block/bad.cc", '"storage/context/chunk.h"'),
    ("storage/context/bad.cc", '"index/kernels/distance.h"'),
    ("storage/codec/bad.cc", '"index/kernels/distance.h"'),
    ("index/vector/bad.cc", '"storage/tier/store.h"'),
    ("index/kernels/bad.cc", '"storage/codec/codec.h"'),
    ("index/kernels/bad.cc", '"index/vector/segment.h"'),
    ("index/fusion/bad.cc", '"index/vector/segment.h"'),
    ("index/vector/bad.cc", '"server/engine/call.h"'),
    ("index/vector/bad.h", "<rocksdb/slice.h>"),
    ("index/vector/bad.h", '"mnemo/v1/common.pb.h"'),
    ("index/kernels/bad.cc", "<faiss/Index.h>"),
    ("index/lexical/bad.cc", "<hwy/highway.h>"),
    ("server/engine/bad.cc", "<faiss/IndexHNSW.h>"),
    ("storage/context/bad.cc", "<hwy/highway.h>"),
    ("storage/context/bad.cc", "<rocksdb/db.h>"),
    ("index/kernels/bad.cc", "<immintrin.h>"),
    ("storage/policy/bad.cc", "<omp.h>"),
    ("server/transfer/bad.cc", '"server/rpc/gate.h"'),
    ("server/engine/bad.cc", '"server/transfer/plane.h"'),
    ("server/identity/bad.cc", '"server/engine/call.h"'),
    ("server/identity/bad.cc", "<grpcpp/grpcpp.h>"),
    ("server/engine/bad.cc", "<openssl/sha.h>"),
    ("client/cpp/bad.cc", '"index/kernels/distance.h"'),
    ("server/gate/bad.cc", '"server/rpc/unary.h"'),
    ("server/gate/bad.cc", "<grpcpp/grpcpp.h>"),
    ("proto/stream/bad.cc", '"server/engine/call.h"'),
    ("proto/stream/bad.cc", '"mnemo/v1/block.pb.h"'),
])
def test_an_upward_include_is_found(path, include):
    assert include_rules.check_includes(SourceFile(path, f"#include {include}\n"))


@pytest.mark.parametrize("path, include", [
    ("storage/block/good.cc", '"storage/tier/store.h"'),
    ("storage/tier/good.cc", "<rocksdb/db.h>"),
    ("server/rpc/good.cc", '"mnemo/v1/block.grpc.pb.h"'),
    ("server/rpc/good.cc", '"server/engine/engine.h"'),
    ("server/main.cc", '"server/rpc/server.h"'),
    ("storage/context/good.cc", '"storage/tier/store.h"'),
    ("storage/snapshot/good.cc", "<rocksdb/utilities/checkpoint.h>"),
    ("storage/codec/good.cc", "<hwy/highway.h>"),
    ("index/kernels/good.cc", "<hwy/highway.h>"),
    ("index/vector/good.cc", "<faiss/IndexHNSW.h>"),
    ("index/vector/good.cc", '"index/kernels/distance.h"'),
    ("index/vector/good.cc", '"storage/base/file_system.h"'),
    ("server/engine/good.cc", '"index/fusion/rank.h"'),
    ("server/engine/good.cc", '"storage/context/context_store.h"'),
    ("server/transfer/good.cc", '"server/engine/block_engine.h"'),
    ("server/transfer/good.cc", '"server/gate/gate.h"'),
    ("server/transfer/good.cc", '"proto/stream/frame.h"'),
    ("client/cpp/good.cc", '"proto/stream/frame.h"'),
    ("proto/stream/good.cc", '"storage/base/bytes.h"'),
    ("server/rpc/good.cc", '"server/transfer/plane.h"'),
    ("server/identity/good.cc", "<openssl/evp.h>"),
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
