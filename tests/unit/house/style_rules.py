"""House rules that a line, or the length of a thing, can break."""

import ast
import re

from tests.unit.house.source_tree import SourceFile, Violation

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_TEST_LINES = 100  # a test tells one story in order, which is harder to cut


def _is_ours_in_production(source: SourceFile) -> bool:
    return source.is_below("storage", "index", "server", "client", "deploy")


# (rule, pattern, which files). This folder's own files hold bad samples.
_LINE_RULES = (
    ("sleeps in a test: use a fake clock or a notification",
     re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|SleepFor|time\.sleep|asyncio\.sleep)"
                r"\s*\((?!0\))"),
     # A load generator keeps a pace, and a crash comes at a random moment.
     lambda source: source.is_test and not source.is_below("tests/bench", "tests/stress")),
    ("fixed port in a test: bind port 0 and ask which it became",
     re.compile(r"(localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0):[1-9]\d*\b"
                r"|\b(?:\w*_)?port\s*=\s*[1-9]\d{2,}\b"),
     lambda source: source.is_test and source.is_below("tests/integration", "tests/stress",
                                                       "tests/bench", "tests/contract",
                                                       "tests/fault")),
    ("reads the environment outside server/config",
     re.compile(r"\b(secure_)?getenv\s*\("),
     lambda source: source.is_cpp and source.is_below("storage", "index", "server", "client/cpp")
     and not source.is_below("server/config")),
    ("catches everything outside index/vector",
     re.compile(r"\bcatch\s*\(\s*\.\.\.\s*\)"),
     lambda source: source.is_cpp and not source.is_below("index/vector")),
    ("swallows every exception",
     re.compile(r"^\s*except\s*:"),
     lambda source: source.is_python),
    ("unfinished word",
     re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\b[Nn]ot (yet )?implemented\b"
                r"|\bNotImplementedError\b"),
     lambda source: True),
    ("another mutex than storage/base/mutex.h",
     re.compile(r"\b(std::(recursive_|shared_|timed_)?mutex|absl::Mutex|std::condition_variable)\b"),
     lambda source: source.is_cpp and source.path != "storage/base/mutex.h"
     and not source.is_below("tests/bench")),
    ("befriends a test",
     re.compile(r"\bFRIEND_TEST\b|\bfriend\s+class\s+\w*Test\b"),
     lambda source: source.is_cpp),
    ("absl::string_view is not std::string_view here",
     re.compile(r"\babsl::string_view\b"),
     lambda source: source.is_cpp and _is_ours_in_production(source)),
)


def check_lines(source: SourceFile) -> list[Violation]:
    return [
        Violation(source.path, number, rule)
        for rule, pattern, applies in _LINE_RULES if applies(source)
        for number, line in enumerate(source.lines, start=1) if pattern.search(line)
    ]


def check_length(source: SourceFile) -> list[Violation]:
    count = len(source.lines)
    if count < MAX_FILE_LINES:
        return []
    return [Violation(source.path, count, f"{count} lines, {MAX_FILE_LINES} or more")]


_SNAKE_CASE = re.compile(r"^[a-z0-9_]+$")


def check_name(source: SourceFile) -> list[Violation]:
    if not (source.is_cpp or source.is_python):
        return []
    stem = source.path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return [] if _SNAKE_CASE.match(stem) else [Violation(source.path, 1, "name is not snake_case")]


def check_header_guard(source: SourceFile) -> list[Violation]:
    if not source.path.endswith(".h") or "#pragma once" in source.lines:
        return []
    return [Violation(source.path, 1, "header without #pragma once")]


_MUTEX_MEMBER = re.compile(r"^\s*(?:mutable\s+)?Mutex\s+(\w+_)\s*(?:ABSL_\w+\([^)]*\)\s*)?;")


def check_mutex_guards_something(source: SourceFile) -> list[Violation]:
    """What a mutex guards, or which functions need it, is said where clang can check it.

    One that guards an order of steps and no field says so beside it.
    """
    if not source.is_cpp or source.path == "storage/base/mutex.h":
        return []
    violations = []
    for number, line in enumerate(source.lines, start=1):
        match = _MUTEX_MEMBER.match(line)
        if match and "//" not in line and not re.search(
                rf"ABSL_\w+\([^)]*\b{match.group(1)}\b[^)]*\)", source.text):
            violations.append(
                Violation(source.path, number, f"no annotation names {match.group(1)}"))
    return violations


_NOT_A_FUNCTION = re.compile(r"^\s*(namespace|class|struct|union|enum|extern|using|typedef)\b")


def _cpp_functions(source: SourceFile):
    """(first line, length) of each function, by the indentation of clang-format.

    A function starts where a line that is indented as deep as its closing
    brace begins a declarator, and the block opens on that line or a
    continuation of it.
    """
    lines = source.lines
    for end, line in enumerate(lines):
        match = re.match(r"^( *)\}", line)
        if not match:
            continue
        indent = match.group(1)
        start = end - 1
        while start >= 0 and (not lines[start].strip() or lines[start].startswith(indent + " ")
                              or re.match(rf"^{indent}( (public|private|protected):|[)#])",
                                          lines[start])):
            start -= 1
        if start < 0:
            continue
        head = lines[start]
        if _NOT_A_FUNCTION.match(head) or "(" not in head or head.strip().startswith(("//", "}")):
            continue
        if re.match(r"^\s*(if|for|while|switch|do|else|return|\[|case)\b", head):
            continue
        yield start, end - start + 1


def check_functions(source: SourceFile) -> list[Violation]:
    violations = []
    if source.is_cpp:
        found = list(_cpp_functions(source))
    elif source.is_python:
        found = [(node.lineno - 1, node.end_lineno - node.lineno + 1)
                 for node in ast.walk(ast.parse(source.text))
                 if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    else:
        return []
    for start, length in found:
        is_story = re.match(r"^(TEST|TEST_F|TEST_P|TYPED_TEST)\(", source.lines[start])
        limit = MAX_TEST_LINES if is_story else MAX_FUNCTION_LINES
        if length > limit:
            violations.append(
                Violation(source.path, start + 1, f"function of {length} lines, over {limit}"))
    return violations
