#!/usr/bin/env python3
"""Says which source files may be compiled as one, for cmake/MnemoUnity.cmake.

Usage: unity_groups.py FILE...   prints a group's number for each, in order.

Compiled as one, two files share what each keeps in its anonymous namespace. So
a file joins a group only if none of its private names is a word of another
file there, nor the other way round: then neither can clash with the other, nor
silently mean something else than when it is compiled alone. Files that include
themselves again (Highway's) stay alone.
"""

import pathlib
import re
import sys

# More than this, and one compilation keeps a core busy when the other is done.
MAX_LINES = 3000

_COMMENTS_AND_STRINGS = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"')
_TEMPLATE_ARGUMENTS = re.compile(r"<[^<>]*>")
# A member is looked up in its class, so it cannot be taken for a private name.
_MEMBER = re.compile(r"(?:\.|->)\s*\w+")
_WORD = re.compile(r"[A-Za-z_]\w*")
_ANONYMOUS = re.compile(r"^namespace \{$(.*?)^\}  ", re.MULTILINE | re.DOTALL)
_GTEST = re.compile(r"^(?:TEST|TEST_F|TEST_P|INSTANTIATE_TEST_SUITE_P)\(", re.MULTILINE)
# Names that a declaration has beside its own.
_NOT_NAMES = {"template", "typename", "final", "alignas"}


def _declared(line: str) -> str | None:
    """The name that a line at the margin of an anonymous namespace declares."""
    if not line[:1].isalpha() or line.startswith(("using ::", "using std::", "namespace ")):
        return None
    while (shorter := _TEMPLATE_ARGUMENTS.sub("", line)) != line:
        line = shorter
    # `final` and a base class, parameters, an initial value: all after the name.
    words = [word for word in _WORD.findall(re.split(r"[({=;\[]|(?<!:):(?!:)", line, maxsplit=1)[0])
             if word not in _NOT_NAMES]
    return words[-1] if words else None


class Source:
    def __init__(self, path: str) -> None:
        whole = pathlib.Path(path).read_text(encoding="utf-8")
        text = _COMMENTS_AND_STRINGS.sub('""', whole)
        self.lines = text.count("\n")
        self.words = set(_WORD.findall(_MEMBER.sub("", text)))
        self.private = {name for body in _ANONYMOUS.findall(text)
                        for line in body.splitlines()
                        if not _GTEST.match(line) and (name := _declared(line))}
        self.private |= set(re.findall(r"^#define (\w+)", text, re.MULTILINE))
        self.alone = "foreach_target.h" in whole

    def may_join(self, others: list["Source"]) -> bool:
        if self.alone or any(other.alone for other in others):
            return False
        if self.lines + sum(other.lines for other in others) > MAX_LINES:
            return False
        return all(not self.private & other.words and not other.private & self.words
                   for other in others)


def groups(sources: list[Source]) -> list[int]:
    members: list[list[Source]] = []
    numbers = []
    for source in sources:
        number = next((i for i, group in enumerate(members) if source.may_join(group)), len(members))
        if number == len(members):
            members.append([])
        members[number].append(source)
        numbers.append(number)
    return numbers


def main() -> None:
    print(";".join(str(number) for number in groups([Source(path) for path in sys.argv[1:]])))


if __name__ == "__main__":
    main()
