"""The messages and methods of `mnemo.v1`, built at run time.

No generated code: generated code refuses runtimes older, and one day newer,
than the compiler that made it, while a descriptor set is data that every
protobuf reads. The pool is private, so that nothing clashes with another
package that carries the same contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any, Dict, Mapping, Tuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "mnemo.v1"
DESCRIPTOR_FILE = "contract.binpb"


@dataclass(frozen=True)
class Method:
    """One method: where it is called and what goes in and out."""

    path: str
    request: Any
    response: Any
    client_streaming: bool
    server_streaming: bool


def _read_descriptors() -> Any:
    data = (resources.files("mnemod") / DESCRIPTOR_FILE).read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(data)


def _make_pool(descriptors: Any) -> Any:
    pool = descriptor_pool.DescriptorPool()
    # The compiler lists a file behind those that it imports.
    for file in descriptors.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _message_class(pool: Any, full_name: str) -> Any:
    descriptor = pool.FindMessageTypeByName(full_name)
    factory: Any = message_factory
    if hasattr(factory, "GetMessageClass"):
        return factory.GetMessageClass(descriptor)
    # Before protobuf 4.22.
    return factory.MessageFactory(pool).GetPrototype(descriptor)


def _load() -> Tuple[Any, Mapping[str, Method], Any]:
    descriptors = _read_descriptors()
    pool = _make_pool(descriptors)
    files = [file for file in descriptors.file if file.package == PACKAGE]
    classes = {
        message.name: _message_class(pool, f"{PACKAGE}.{message.name}")
        for file in files
        for message in file.message_type
    }
    methods: Dict[str, Method] = {}
    for file in files:
        for service in file.service:
            for method in service.method:
                methods[f"{service.name}.{method.name}"] = Method(
                    path=f"/{PACKAGE}.{service.name}/{method.name}",
                    request=classes[method.input_type.rsplit(".", 1)[1]],
                    response=classes[method.output_type.rsplit(".", 1)[1]],
                    client_streaming=method.client_streaming,
                    server_streaming=method.server_streaming,
                )
    return SimpleNamespace(**classes), methods, pool


# `pb.MatchRequest` and so on; `METHODS["BlockService.Match"]`; the pool, for
# tests that compare enumerations.
pb, METHODS, POOL = _load()
