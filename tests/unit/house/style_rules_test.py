"""The tree keeps the house's style; and each rule would notice a breach."""

import pytest

from tests.unit.house import build_rules, style_rules
from tests.unit.house.source_tree import (ROOT, SourceFile, describe, list_paths, read_sources)

# Files that hold bad samples for these very rules, or the rules' patterns.
SAMPLES = ("tests/unit/house",)


def violations_of(check):
    return [violation for source in read_sources() if not source.is_below(*SAMPLES)
            for violation in check(source)]


@pytest.mark.parametrize("check", [
    style_rules.check_lines, style_rules.check_length, style_rules.check_name,
    style_rules.check_header_guard, style_rules.check_mutex_guards_something,
    style_rules.check_functions,
], ids=lambda check: check.__name__)
def test_the_tree_keeps_the_style(check):
    violations = violations_of(check)
    assert not violations, describe(violations)


def test_this_folder_is_not_long_either():
    own = [source for source in read_sources() if source.is_below(*SAMPLES)]
    violations = [violation for source in own
                  for check in (style_rules.check_length, style_rules.check_functions)
                  for violation in check(source)]
    assert own and not violations, describe(violations)


@pytest.mark.parametrize("path, line", [
    ("tests/unit/a_test.cc", "std::this_thread::sleep_for(std::chrono::seconds(1));"),
    ("tests/integration/a_test.py", "    time.sleep(0.1)"),
    ("tests/integration/a_test.py", "    await asyncio.sleep(1)"),
    ("tests/integration/a_test.py", 'address = "127.0.0.1:7070"'),
    ("tests/stress/a.py", "port = 7070"),
    ("storage/tier/a.cc", 'const char* home = getenv("HOME");'),
    ("server/rpc/a.cc", "} catch (...) {"),
    ("client/python/mnemod/a.py", "    except:"),
    ("server/rpc/a.cc", "// TODO(me): the rest"),
    ("server/rpc/a.cc", 'return absl::UnimplementedError("not implemented");'),
    ("storage/block/a.h", "  std::mutex mutex_;"),
    ("storage/block/a.h", "  friend class DirectoryTest;"),
    ("storage/block/a.h", "  void Put(absl::string_view key);"),
])
def test_a_bad_line_is_found(path, line):
    assert style_rules.check_lines(SourceFile(path, f"first\n{line}\n"))


@pytest.mark.parametrize("path, line", [
    ("storage/base/clock.cc", "std::this_thread::sleep_for(pause);"),
    ("server/config/environment.cc", 'getenv("MNEMO_DATA_DIR")'),
    ("tests/integration/a_test.py", "    await asyncio.sleep(0)"),
    ("tests/integration/a_test.py", 'address = "127.0.0.1:0"'),
    ("index/vector/a.cc", "} catch (...) {"),
    ("storage/base/mutex.h", "  std::mutex mutex_;"),
])
def test_a_good_line_is_left_alone(path, line):
    assert not style_rules.check_lines(SourceFile(path, f"first\n{line}\n"))


def test_a_long_file_is_found():
    assert style_rules.check_length(SourceFile("a.cc", "x\n" * 600))
    assert not style_rules.check_length(SourceFile("a.cc", "x\n" * 599))


def test_a_bad_name_is_found():
    assert style_rules.check_name(SourceFile("storage/base/FileSystem.cc", ""))
    assert not style_rules.check_name(SourceFile("storage/base/file_system.cc", ""))


def test_a_header_without_guard_is_found():
    assert style_rules.check_header_guard(SourceFile("a.h", "class A {};\n"))
    assert not style_rules.check_header_guard(SourceFile("a.h", "#pragma once\nclass A {};\n"))


def test_a_mutex_that_guards_nothing_is_found():
    bare = "class A {\n  mutable Mutex mutex_;\n  int count_ = 0;\n};\n"
    guarded = "class A {\n  mutable Mutex mutex_;\n  int count_ ABSL_GUARDED_BY(mutex_) = 0;\n};\n"
    serial = "class A {\n  Mutex mutex_;  // one recovery at a time\n};\n"
    assert style_rules.check_mutex_guards_something(SourceFile("a.h", bare))
    assert not style_rules.check_mutex_guards_something(SourceFile("a.h", serial))
    assert not style_rules.check_mutex_guards_something(SourceFile("a.h", guarded))


CPP_FUNCTION = """namespace mnemo {{
{head} {{
{body}
}}
}}  // namespace mnemo
"""


@pytest.mark.parametrize("head", [
    "absl::Status Directory::Insert(const Key& key)",
    "absl::StatusOr<std::unique_ptr<Store>> OpenStore(const Options& options,\n"
    "                                                 FileSystem& files)",
    "Directory::Directory(const Options& options)\n    : options_(options)",
])
def test_a_long_function_is_found(head):
    def source(lines):
        body = "\n".join(["  if (x) {\n    y();\n  }"] * (lines // 3))
        return SourceFile("storage/block/a.cc", CPP_FUNCTION.format(head=head, body=body))
    assert style_rules.check_functions(source(75))
    assert not style_rules.check_functions(source(60))


def test_a_test_may_be_longer_but_not_endless():
    def source(lines):
        return SourceFile("tests/unit/a_test.cc", CPP_FUNCTION.format(
            head="TEST(DirectoryTest, Evicts)", body="  x();\n" * lines))
    assert not style_rules.check_functions(source(90))
    assert style_rules.check_functions(source(100))


def test_a_long_class_of_short_functions_is_left_alone():
    method = "  int Get() const {\n    return 1;\n  }\n"
    source = SourceFile("a.h", "class A {\n public:\n" + method * 40 + "};\n")
    assert not style_rules.check_functions(source)


def test_a_long_method_inside_a_class_is_found():
    method = "  int Get() const {\n" + "    x();\n" * 70 + "  }\n"
    assert style_rules.check_functions(SourceFile("a.h", f"class A {{\n public:\n{method}}};\n"))


def test_a_long_python_function_is_found():
    assert style_rules.check_functions(SourceFile("a.py", "def f():\n" + "    x = 1\n" * 70))
    assert not style_rules.check_functions(SourceFile("a.py", "def f():\n" + "    x = 1\n" * 69))


def test_every_source_is_in_the_build():
    violations = build_rules.check_in_the_build(list(read_sources()))
    assert not violations, describe(violations)


def test_a_source_outside_the_build_is_found():
    lists = SourceFile("tests/unit/a/CMakeLists.txt", "mnemo_test(a_test DEPS mnemo_base)")
    inside = SourceFile("tests/unit/a/a_test.cc", "")
    unnamed = SourceFile("tests/unit/a/helper.cc", "")
    loop = SourceFile("tests/bench/CMakeLists.txt",
                      "foreach(part x y)\n  mnemo_bench(b_${part} SOURCE ${part}_bench.cc)\nendforeach()")
    named_in_loop = SourceFile("tests/bench/x_bench.cc", "")
    not_in_loop = SourceFile("tests/bench/z_bench.cc", "")
    orphan = SourceFile("tests/unit/b/b_test.cc", "")
    found = build_rules.check_in_the_build(
        [lists, inside, unnamed, loop, named_in_loop, not_in_loop, orphan])
    assert [violation.path for violation in found] == [
        unnamed.path, not_in_loop.path, orphan.path]


def test_every_fuzzer_has_a_corpus():
    violations = build_rules.check_corpora(
        build_rules.fuzzers(list(read_sources())), list_paths())
    assert not violations, describe(violations)


def test_a_fuzzer_without_a_corpus_is_found():
    names = build_rules.fuzzers([SourceFile("tests/fuzz/CMakeLists.txt",
                                            "mnemo_fuzzer(envelope_fuzz SOURCE envelope_fuzz.cc)")])
    assert names == {"envelope_fuzz"}
    assert build_rules.check_corpora(names, ("tests/fuzz/corpus/other/a",))
    assert not build_rules.check_corpora(names, ("tests/fuzz/corpus/envelope_fuzz/a",))


def test_suppressions_name_third_parties_and_reasons():
    paths = [path for path in list_paths() if path.endswith(".supp")]
    assert paths
    violations = [violation for path in paths
                  for violation in build_rules.check_suppressions(path, (ROOT / path).read_text())]
    assert not violations, describe(violations)


@pytest.mark.parametrize("text", [
    "# why\nrace:mnemo::Directory\n",
    "race:rocksdb::DBImpl\n",
    "# why\n\nrace:rocksdb::DBImpl\n",
    "# why\nthread:*\n",
])
def test_a_bad_suppression_is_found(text):
    assert build_rules.check_suppressions("tsan.supp", text)
