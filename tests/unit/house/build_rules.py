"""Nothing lies in the tree that no build, test or corpus reaches."""

import re

from tests.unit.house.source_tree import SourceFile, Violation


def check_in_the_build(sources: list[SourceFile]) -> list[Violation]:
    """A C++ source needs a CMakeLists.txt beside it that names it or globs for it."""
    lists = {source.path.removesuffix("CMakeLists.txt").rstrip("/"): source.text
             for source in sources if source.path.endswith("CMakeLists.txt")}
    violations = []
    for source in sources:
        if not source.path.endswith(".cc"):
            continue
        folder, _, name = source.path.rpartition("/")
        text = lists.get(folder)
        if source.path == "tests/fuzz/replay_main.cc":
            continue  # linked by mnemo_fuzzer
        if text is None:
            violations.append(Violation(source.path, 1, "no CMakeLists.txt beside it"))
        elif not _reaches(text, name):
            violations.append(Violation(source.path, 1, "its CMakeLists.txt does not build it"))
    return violations


def _reaches(text: str, name: str) -> bool:
    if name in text or "/*.cc" in text:
        return True
    if name.endswith("_test.cc"):
        return "mnemo_test(" in text or "/*_test.cc" in text
    return "mnemo_library(" in text or _reached_in_a_loop(text, name)


def _reached_in_a_loop(text: str, name: str) -> bool:
    """${part}_bench.cc, with `part` among the words of a foreach."""
    words = {word for loop in re.findall(r"foreach\(\w+([^)]*)\)", text) for word in loop.split()}
    for template in re.findall(r"[\w./]*\$\{\w+\}[\w./]*\.cc", text):
        prefix, _, rest = template.partition("${")
        suffix = rest.partition("}")[2]
        if any(name == f"{prefix}{word}{suffix}" for word in words):
            return True
    return False


_FUZZER = re.compile(r"\bmnemo_fuzzer\(\s*(\w+)")


def fuzzers(sources: list[SourceFile]) -> set[str]:
    return {name for source in sources if source.path.endswith("CMakeLists.txt")
            for name in _FUZZER.findall(source.text)}


def check_corpora(names: set[str], paths: tuple[str, ...]) -> list[Violation]:
    """Each fuzzer starts from, and replays, at least one committed input."""
    return [Violation(f"tests/fuzz/corpus/{name}", 1, "fuzzer without a corpus")
            for name in sorted(names)
            if not any(path.startswith(f"tests/fuzz/corpus/{name}/") for path in paths)]


def check_suppressions(path: str, text: str) -> list[Violation]:
    """A suppression names a library that is not ours, under a comment that says why."""
    violations = []
    reason = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            reason = False
        elif line.startswith("#"):
            reason = True
        else:
            if "mnemo" in line or not re.match(r"^(race|called_from_lib|leak|deadlock):\S+$", line):
                violations.append(Violation(path, number, f"suppresses ours: {line}"))
            if not reason:
                violations.append(Violation(path, number, f"no reason given: {line}"))
    return violations
