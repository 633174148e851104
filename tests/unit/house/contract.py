"""The contract, proto/mnemo/v1, beside the snapshot of it that was accepted.

`contract.json` lists every message, field, enum value and method that a
client may rely on. A change of any of them breaks somebody and fails a test;
an addition is recorded with `make contract-accept`, which refuses the rest.

Run as a program: contract.py --accept [--incompatible]. The second flag is
for the time before the first release, when nobody relies on it yet.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parents[3]
SNAPSHOT = ROOT / "proto" / "mnemo" / "v1" / "contract.json"

Field = descriptor_pb2.FieldDescriptorProto
# Field numbers of FileDescriptorProto and what it holds, by which
# SourceCodeInfo names a place.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE, _SERVICE_METHOD = 2, 2


def load_files(proto_root: pathlib.Path) -> list[descriptor_pb2.FileDescriptorProto]:
    """Compiles every proto below `proto_root`/mnemo, comments kept."""
    protos = sorted(str(path.relative_to(proto_root))
                    for path in (proto_root / "mnemo").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "set.binpb"
        subprocess.run(
            ["protoc", "-I", str(proto_root), "--include_source_info",
             f"--descriptor_set_out={out}", *protos], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return list(files.file)


def _describe_field(message: descriptor_pb2.DescriptorProto, field: Field) -> dict[str, object]:
    kind = field.type_name.lstrip(".") or Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    described: dict[str, object] = {"name": field.name, "type": kind}
    if field.label == Field.LABEL_REPEATED:
        described["repeated"] = True
    if field.proto3_optional:
        described["optional"] = True
    elif field.HasField("oneof_index"):
        described["oneof"] = message.oneof_decl[field.oneof_index].name
    if field.json_name and field.json_name != _json_name(field.name):
        described["json"] = field.json_name
    return described


def _json_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _add_enum(contract, prefix: str, enum: descriptor_pb2.EnumDescriptorProto) -> None:
    contract["enums"][f"{prefix}.{enum.name}"] = {
        str(value.number): value.name for value in enum.value}


def _add_message(contract, prefix: str, message: descriptor_pb2.DescriptorProto) -> None:
    name = f"{prefix}.{message.name}"
    contract["messages"][name] = {
        str(field.number): _describe_field(message, field) for field in message.field}
    for nested in message.nested_type:
        _add_message(contract, name, nested)
    for enum in message.enum_type:
        _add_enum(contract, name, enum)


def describe_contract(files) -> dict[str, dict[str, dict]]:
    """What a client may rely on, as plain data: kind -> name -> number or method -> facts."""
    contract: dict[str, dict[str, dict]] = {"messages": {}, "enums": {}, "services": {}}
    for file in files:
        for message in file.message_type:
            _add_message(contract, file.package, message)
        for enum in file.enum_type:
            _add_enum(contract, file.package, enum)
        for service in file.service:
            contract["services"][f"{file.package}.{service.name}"] = {
                method.name: {
                    "request": method.input_type.lstrip("."),
                    "response": method.output_type.lstrip("."),
                    "client_streaming": method.client_streaming,
                    "server_streaming": method.server_streaming,
                } for method in service.method}
    return contract


def compare(accepted, current) -> tuple[list[str], list[str]]:
    """(incompatible changes, additions), one sentence each."""
    broken, added = [], []
    for kind, things in accepted.items():
        for name, members in things.items():
            now = current[kind].get(name)
            if now is None:
                broken.append(f"{kind[:-1]} {name} is gone")
                continue
            for key, facts in members.items():
                if key not in now:
                    broken.append(f"{name}: {key} ({facts}) is gone")
                elif now[key] != facts:
                    broken.append(f"{name}: {key} was {facts}, is {now[key]}")
    for kind, things in current.items():
        for name, members in things.items():
            known = accepted[kind].get(name)
            if known is None:
                added.append(f"{kind[:-1]} {name}")
            else:
                added += [f"{name}: {key} ({facts})" for key, facts in members.items()
                          if key not in known]
    return broken, added


def _places(file):
    """(path, name) of everything in a file that must have a comment."""
    def in_enum(path, prefix, enum):
        yield path, f"{prefix}{enum.name}"
        for i, value in enumerate(enum.value):
            yield (*path, _ENUM_VALUE, i), f"{prefix}{enum.name}.{value.name}"

    def in_message(path, prefix, message):
        if message.options.map_entry:
            return
        yield path, f"{prefix}{message.name}"
        for i, field in enumerate(message.field):
            yield (*path, _MESSAGE_FIELD, i), f"{prefix}{message.name}.{field.name}"
        for i, nested in enumerate(message.nested_type):
            yield from in_message((*path, _MESSAGE_NESTED, i), f"{prefix}{message.name}.", nested)
        for i, enum in enumerate(message.enum_type):
            yield from in_enum((*path, _MESSAGE_ENUM, i), f"{prefix}{message.name}.", enum)

    for i, message in enumerate(file.message_type):
        yield from in_message((_FILE_MESSAGE, i), "", message)
    for i, enum in enumerate(file.enum_type):
        yield from in_enum((_FILE_ENUM, i), "", enum)
    for i, service in enumerate(file.service):
        yield (_FILE_SERVICE, i), service.name
        for j, method in enumerate(service.method):
            yield (_FILE_SERVICE, i, _SERVICE_METHOD, j), f"{service.name}.{method.name}"


def find_uncommented(files) -> list[str]:
    uncommented = []
    for file in files:
        comments = {tuple(place.path): (place.leading_comments + place.trailing_comments).strip()
                    for place in file.source_code_info.location}
        uncommented += [f"{file.name}: {name}" for path, name in _places(file)
                        if not comments.get(path)]
    return uncommented


def read_snapshot() -> dict[str, dict[str, dict]]:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accept", action="store_true", required=True)
    parser.add_argument("--incompatible", action="store_true",
                        help="also record what breaks clients; before the first release only")
    options = parser.parse_args()
    current = describe_contract(load_files(ROOT / "proto"))
    accepted = read_snapshot() if SNAPSHOT.exists() else {key: {} for key in current}
    broken, added = compare(accepted, current)
    for change in broken:
        print(f"incompatible: {change}", file=sys.stderr)
    if broken and not options.incompatible:
        return 1
    for change in added:
        print(f"added: {change}")
    SNAPSHOT.write_text(json.dumps(current, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
