"""The embedded descriptors, and the numbers that repeat the contract's."""

import pathlib
import subprocess

import pytest

from google.protobuf import descriptor_pb2

from mnemod import auth, blocks, contexts, spaces
from mnemod._contract import METHODS, PACKAGE, POOL

CLIENT = pathlib.Path(__file__).resolve().parents[4] / "client" / "python"


def read(path):
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    for file in descriptors.file:
        # Compilers differ in whether they write the default of json_name.
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    return sorted(descriptors.file, key=lambda file: file.name)


def test_the_embedded_contract_is_that_of_the_protos(tmp_path):
    fresh = tmp_path / "contract.binpb"
    subprocess.run([CLIENT / "scripts" / "generate_contract.sh", fresh], check=True)
    assert read(fresh) == read(CLIENT / "mnemod" / "contract.binpb")


@pytest.mark.parametrize(
    "name", ["aio.py", "aio_contexts.py", "aio_auth.py", "aio_block_keeping.py"]
)
def test_the_asyncio_client_is_written_from_the_blocking_one(tmp_path, name):
    subprocess.run(["python3", CLIENT / "scripts" / "generate_aio.py", tmp_path], check=True)
    assert (tmp_path / name).read_text() == (CLIENT / "mnemod" / name).read_text()


@pytest.mark.parametrize(
    "name, prefix, ours",
    [
        ("Durability", "DURABILITY", spaces.Durability),
        ("GroupKind", "GROUP_KIND", spaces.GroupKind),
        ("DType", "DTYPE", spaces.DType),
        ("Layout", "LAYOUT", spaces.Layout),
        ("RopePairing", "ROPE_PAIRING", spaces.RopePairing),
        ("Level", "LEVEL", blocks.Level),
        ("Role", "ROLE", auth.Role),
        ("Verdict", "VERDICT", blocks.Verdict),
        ("PutOutcome", "PUT_OUTCOME", blocks.PutOutcome),
        ("ReadOrder", "READ_ORDER", blocks.ReadOrder),
        ("BlockEventKind", "BLOCK_EVENT_KIND", blocks.EventKind),
        ("Metric", "METRIC", contexts.Metric),
        ("TokenKind", "TOKEN_KIND", contexts.TokenKind),
    ],
)
def test_enumerations_have_the_numbers_of_the_contract(name, prefix, ours):
    theirs = {
        value.name[len(prefix) + 1 :]: value.number
        for value in POOL.FindEnumTypeByName(f"{PACKAGE}.{name}").values
    }
    # 0 is "unspecified" there, and left out or given its meaning here.
    assert {k: v for k, v in theirs.items() if v} == {v.name: int(v) for v in ours if v}


def test_every_method_is_known_with_its_streams():
    streams = {
        name: (method.client_streaming, method.server_streaming)
        for name, method in METHODS.items()
        if method.client_streaming or method.server_streaming
    }
    assert streams == {
        "BlockService.Put": (True, True),
        "BlockService.Get": (False, True),
        "BlockService.Watch": (False, True),
        "ContextService.Append": (True, True),
        "ContextService.Read": (False, True),
    }
    assert METHODS["SpaceService.Open"].path == "/mnemo.v1.SpaceService/Open"
    assert len(METHODS) == 43
