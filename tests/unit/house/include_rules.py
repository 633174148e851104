"""Which room may see which: by its includes and by what its target links.

Dependencies run downward only (docs/architecture.md, section 1).
"""

import re

from tests.unit.house.source_tree import SourceFile, Violation

# A room may include itself and what stands here beside it, nothing else of ours.
# Some stand here before they exist: the first file finds its rule waiting.
_STORAGE_BASE = {"storage/base"}
_CODEC = {"storage/codec"} | _STORAGE_BASE
_POLICY = {"storage/policy"} | _STORAGE_BASE
_TIER = {"storage/tier"} | _CODEC | _POLICY
_BLOCK = {"storage/block"} | _TIER
_CONTEXT = {"storage/context"} | _TIER
_SNAPSHOT = {"storage/snapshot"} | _TIER
_STORAGE = _BLOCK | _CONTEXT | _SNAPSHOT
# Of storage, the index sees the base only; storage sees nothing of the index.
_KERNELS = {"index/kernels"} | _STORAGE_BASE
_INDEX = {"index/vector", "index/lexical", "index/fusion", "index/attention"} | _KERNELS
_IDENTITY = {"server/identity"} | _TIER
_ENGINE = {"server/engine"} | _IDENTITY | _STORAGE | _INDEX
_OBSERVED = {"server/observe", "server/config"} | _ENGINE
_PROTO = {"proto"}
_STREAM = {"proto/stream"} | _STORAGE_BASE
_GATE = {"server/gate"} | _ENGINE

ROOMS: dict[str, set[str]] = {
    "storage/base": _STORAGE_BASE,
    "storage/codec": _CODEC,
    "storage/policy": _POLICY,
    "storage/tier": _TIER,
    "storage/block": _BLOCK,
    "storage/context": _CONTEXT,
    "storage/snapshot": _SNAPSHOT,
    "index/kernels": _KERNELS,
    "index/vector": {"index/vector"} | _KERNELS,
    "index/lexical": {"index/lexical"} | _KERNELS,
    "index/fusion": {"index/fusion"} | _KERNELS,
    "index/attention": {"index/attention"} | _KERNELS,
    "server/identity": _IDENTITY,
    "server/engine": _ENGINE,
    "server/config": {"server/config"} | _ENGINE,
    "server/observe": _OBSERVED,
    "server/workers": {"server/workers"} | _OBSERVED,
    "server/gate": _GATE,
    "server/transfer": {"server/transfer"} | _OBSERVED | _GATE | _STREAM,
    "server/cluster": {"server/cluster"} | _OBSERVED | _PROTO,
    "server/rpc": {"server/rpc", "server/transfer", "server/cluster"} | _OBSERVED | _GATE | _PROTO,
    "client/cpp": {"client/cpp"} | _CODEC | _STREAM | _PROTO,
    "client/cli": {"client/cli", "client/cpp"} | _STORAGE_BASE | _PROTO,
    "proto": _PROTO,
    "proto/stream": _STREAM,
}

# Third-party headers that only some folders may see.
_FENCED = (
    (re.compile(r"^(grpcpp/|grpc/|.*\.pb\.h$)"),
     ("server/rpc", "server/transfer", "server/cluster", "server/main.cc", "client", "tests"),
     "gRPC and protobuf stay in server/rpc, server/transfer, server/cluster, client and tests"),
    (re.compile(r"^rocksdb/"), ("storage/tier", "storage/snapshot", "tests"),
     "RocksDB stays in storage/tier and storage/snapshot"),
    (re.compile(r"^(faiss/|omp\.h$|cblas\.h$)"), ("index/vector", "tests"),
     "FAISS, and what it computes with, stays in index/vector"),
    (re.compile(r"^hwy/"), ("index/kernels", "storage/codec", "storage/base", "tests"),
     "SIMD stays in the rooms of kernels, index/kernels and storage/codec, and what they share"),
    (re.compile(r"^(immintrin|[a-z]mmintrin|arm_neon)\.h$"), (),
     "intrinsics of one machine: write it with Highway"),
    (re.compile(r"^openssl/"), ("storage/base", "proto/stream/stream_socket.h", "proto/stream/stream_socket.cc",
                               "server/identity", "server/transfer", "server/observe", "client", "tests"),
     "digests come from storage/base, TLS from server/identity, its sockets from proto/stream"),
    (re.compile(r"^(CLI/|yaml-cpp/)"), ("server/config", "client/cli", "tests"),
     "flags and YAML are read in server/config and client/cli only"),
    (re.compile(r"^(prometheus/|civetweb)"),
     ("server/observe", "server/daemon.h", "server/daemon.cc", "tests"),
     "metrics and their HTTP server stay in server/observe"),
    (re.compile(r"^zlib\.h$"), ("proto/stream", "tests"), "zlib is there for the frames' checksum"),
    (re.compile(r"^spdlog/"), ("server/observe", "tests"), "logging stays in server/observe"),
)

_INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')


def room_of(path: str) -> str | None:
    """The room that a file, or an include of ours, belongs to."""
    if path.startswith("mnemo/v1/"):
        return "proto"
    parts = path.split("/")
    if parts[0] in ("storage", "index", "server", "client") and len(parts) > 2:
        return "/".join(parts[:2])
    if parts[0] == "proto":
        return "proto/stream" if parts[1:2] == ["stream"] else "proto"
    return None  # files right below server/, and tests: wiring, may see everything


def check_includes(source: SourceFile) -> list[Violation]:
    violations = []
    room = room_of(source.path)
    for number, line in enumerate(source.lines, start=1):
        match = _INCLUDE.match(line)
        if not match:
            continue
        included = match.group(1)
        for pattern, allowed, why in _FENCED:
            if pattern.match(included) and not source.is_below(*allowed):
                violations.append(Violation(source.path, number, f"includes {included}: {why}"))
        if included.startswith("tests/") and not source.is_test:
            violations.append(Violation(source.path, number, f"includes {included}: a test's"))
        seen = room_of(included)
        if room is None or seen is None:
            continue
        if room not in ROOMS:
            violations.append(Violation(source.path, number, f"room {room} has no rule: add it"))
        elif seen not in ROOMS[room]:
            violations.append(
                Violation(source.path, number, f"{room} must not see {seen} ({included})"))
    return violations


_TARGET_CALL = re.compile(
    r"\b(mnemo_library|add_library|add_executable|target_link_libraries)\s*\(\s*([\w$\{\}:.-]+)"
    r"([^()]*)\)")
_OURS = re.compile(r"^(mnemo_\w+|mnemod|mnemoctl)$")


def targets_by_room(lists: list[SourceFile]) -> dict[str, str]:
    """Target name to the folder whose CMakeLists.txt makes it."""
    rooms = {}
    for source in lists:
        for call, name, _ in _TARGET_CALL.findall(source.text):
            if call != "target_link_libraries" and _OURS.match(name):
                rooms[name] = source.path.removesuffix("CMakeLists.txt").rstrip("/")
    return rooms


def check_links(lists: list[SourceFile]) -> list[Violation]:
    """What each room's target links must be a room that it may include."""
    folders = targets_by_room(lists)
    violations = []
    for source in lists:
        for match in _TARGET_CALL.finditer(source.text):
            name, arguments = match.group(2), match.group(3)
            room = room_of(folders.get(name, "") + "/x")
            if room is None or not _OURS.match(name):
                continue
            line = source.text.count("\n", 0, match.start()) + 1
            for linked in re.findall(r"[\w:+.-]+", re.sub(r"#[^\n]*", "", arguments)):
                other = room_of(folders.get(linked, "") + "/x")
                if other is None or other == room:
                    continue
                if other not in ROOMS.get(room, set()):
                    violations.append(
                        Violation(source.path, line, f"{name} must not link {linked} of {other}"))
    return violations
