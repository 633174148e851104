"""The project's own files, as the house rules see them."""

import dataclasses
import functools
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
CPP_SUFFIXES = (".cc", ".h")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file by its path below the root, so that a test can make one up."""

    path: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def is_cpp(self) -> bool:
        return self.path.endswith(CPP_SUFFIXES)

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    def is_below(self, *folders: str) -> bool:
        return any(self.path == folder or self.path.startswith(folder + "/") for folder in folders)


@dataclasses.dataclass(frozen=True, order=True)
class Violation:
    path: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def is_generated(path: str) -> bool:
    return path.endswith(("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"))


@functools.cache
def list_paths() -> tuple[str, ...]:
    """Every file that is committed or would be, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(path for path in set(listing.splitlines()) if (ROOT / path).is_file()))


@functools.cache
def read_sources() -> tuple[SourceFile, ...]:
    """C++, Python, proto and CMake files; generated ones are not ours to judge."""
    suffixes = (*CPP_SUFFIXES, ".py", ".proto", "CMakeLists.txt", ".cmake")
    return tuple(
        SourceFile(path, (ROOT / path).read_text(encoding="utf-8", errors="replace"))
        for path in list_paths()
        if path.endswith(suffixes) and not is_generated(path))


def describe(violations: list[Violation]) -> str:
    return "\n" + "\n".join(str(violation) for violation in sorted(violations))
