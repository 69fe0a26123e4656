"""Generate ``src/bastide/_proto`` from ``proto/``: ``make proto``, or ``python tools/gen_proto.py [FOLDER]``.

The compiler writes imports that only work with the folder on ``sys.path``, and no types for services. Both are mended
here. The same compiler version gives the same bytes; a test compares them with what is committed.
"""

import re
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "proto"
TARGET = ROOT / "src" / "bastide" / "_proto"

_PACKAGE = '"""Code generated from ``proto/`` by ``tools/gen_proto.py``: do not edit."""\n'
_SIBLING_IMPORT = re.compile(r"^import (\w+_pb2) as ", re.MULTILINE)
_STUB_HEAD = '''"""Types of the services in {proto}, as grpc.aio uses them."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import grpc.aio

from . import {module} as pb
'''


def generate(target: Path) -> tuple[Path, ...]:
    """Write the package into ``target``; gives the files written, sorted."""
    target.mkdir(parents=True, exist_ok=True)
    protos = sorted(SOURCES.glob("*.proto"))
    for file in _compile(protos, target).file:
        _mend_service_module(target / f"{_module(file)}_grpc.py")
        (target / f"{_module(file)}_grpc.pyi").write_text(_service_types(file))
    (target / "__init__.py").write_text(_PACKAGE)
    return tuple(sorted(path for path in target.iterdir() if path.suffix in {".py", ".pyi"}))


def _compile(protos: list[Path], target: Path) -> descriptor_pb2.FileDescriptorSet:
    with tempfile.NamedTemporaryFile() as descriptors:
        outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
        names = [path.name for path in protos]
        arguments = [f"--proto_path={SOURCES}", f"--descriptor_set_out={descriptors.name}", *outputs, *names]
        if protoc.main(["protoc", *arguments]) != 0:
            sys.exit("gen_proto: the compiler failed (its message is above)")
        return descriptor_pb2.FileDescriptorSet.FromString(Path(descriptors.name).read_bytes())


def _module(file: descriptor_pb2.FileDescriptorProto) -> str:
    return file.name.removesuffix(".proto") + "_pb2"


def _mend_service_module(path: Path) -> None:
    path.write_text(_SIBLING_IMPORT.sub(r"from . import \1 as ", path.read_text()))


def _service_types(file: descriptor_pb2.FileDescriptorProto) -> str:
    head = _STUB_HEAD.format(proto=file.name, module=_module(file))
    return "\n".join([head, *(_one_service(service) for service in file.service)])


def _one_service(service: descriptor_pb2.ServiceDescriptorProto) -> str:
    name = service.name
    return "\n".join(
        [
            f"class {name}Stub:",
            "    def __init__(self, channel: grpc.aio.Channel) -> None: ...",
            *(_client_method(method) for method in service.method),
            "",
            f"class {name}Servicer:",
            *(_server_method(method) for method in service.method),
            "",
            f"def add_{name}Servicer_to_server(servicer: {name}Servicer, server: grpc.aio.Server) -> None: ...",
            "",
        ]
    )


def _types(method: descriptor_pb2.MethodDescriptorProto) -> tuple[str, str]:
    return "pb." + method.input_type.rpartition(".")[2], "pb." + method.output_type.rpartition(".")[2]


def _client_method(method: descriptor_pb2.MethodDescriptorProto) -> str:
    answer = "AsyncIterable" if method.server_streaming else "Awaitable"
    return f"    {method.name}: Callable[..., {answer}[{_types(method)[1]}]]"


def _server_method(method: descriptor_pb2.MethodDescriptorProto) -> str:
    asked, answered = _types(method)
    keyword, result = ("def", f"AsyncIterator[{answered}]") if method.server_streaming else ("async def", answered)
    return f"    {keyword} {method.name}(self, request: {asked}, context: grpc.aio.ServicerContext) -> {result}: ..."


if __name__ == "__main__":
    for written in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET):
        print(written)
