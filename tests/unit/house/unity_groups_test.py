"""cmake/unity_groups.py parts files that would see each other's private names."""

import importlib.util

import pytest

from tests.unit.house.source_tree import ROOT

_SPEC = importlib.util.spec_from_file_location("unity_groups", ROOT / "cmake" / "unity_groups.py")
unity_groups = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(unity_groups)


def file_with(private: str, rest: str = "") -> str:
    return f"namespace mnemo {{\nnamespace {{\n\n{private}\n\n}}  // namespace\n{rest}\n}}  // namespace mnemo\n"


def groups(tmp_path, *texts):
    paths = []
    for number, text in enumerate(texts):
        path = tmp_path / f"file{number}.cc"
        path.write_text(text)
        paths.append(unity_groups.Source(str(path)))
    return unity_groups.groups(paths)


@pytest.mark.parametrize("private", [
    "int Twice(int x) { return 2 * x; }",
    "constexpr uint64_t Twice = 7;",
    "class Twice final : public Base {\n};",
    "struct Twice {\n};",
    "using Twice = std::map<int, std::string>;",
    "template <typename T>\nT Twice(const std::vector<T>& in) {\n}",
    "std::map<int, std::vector<int>> Twice;",
    "const char* const Twice[] = {};",
    "enum class Twice : uint8_t { kOne };",
])
def test_a_private_name_parts_files_that_use_the_word(tmp_path, private):
    user = file_with("int Own();", "int Use() { return Twice(1); }")
    assert groups(tmp_path, file_with(private), user) == [0, 1]
    assert groups(tmp_path, user, file_with(private)) == [0, 1]


def test_what_only_looks_alike_parts_nothing(tmp_path):
    private = file_with("int Twice(int x) { return 2 * x; }")
    member = file_with("int Own();", "int Use(T& t) { return t.Twice(1); }  // Twice\n"
                                     'const char* kText = "Twice";')
    assert groups(tmp_path, private, member, file_with("int Other();")) == [0, 0, 0]


def test_names_that_are_brought_in_are_nobodys(tmp_path):
    text = file_with("using ::testing::HasSubstr;\nusing std::chrono::seconds;")
    assert groups(tmp_path, text, text) == [0, 0]


def test_cases_of_one_suite_share_its_name(tmp_path):
    first = file_with("TEST(Suite, One) {\n}")
    second = file_with("TEST(Suite, Two) {\n}")
    assert groups(tmp_path, first, second) == [0, 0]


def test_macros_count_and_a_file_that_includes_itself_stays_alone(tmp_path):
    assert groups(tmp_path, "#define MNEMO_X 1\n", "int x = MNEMO_X;\n") == [0, 1]
    highway = '#include "hwy/foreach_target.h"\n'
    assert groups(tmp_path, highway, "int x;\n", "int y;\n", highway) == [0, 1, 1, 2]


def test_a_group_ends_where_one_core_would_wait_for_the_other(tmp_path):
    long = "int x();\n" * (unity_groups.MAX_LINES // 2)
    assert groups(tmp_path, long, long, long) == [0, 0, 1]
