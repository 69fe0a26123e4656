import importlib.util
from pathlib import Path
from types import ModuleType

from bastide._proto import deviceplugin_v1beta1_pb2 as pb

ROOT = Path(__file__).parents[3]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_proto", ROOT / "tools" / "gen_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_code_is_what_the_protos_generate(tmp_path):
    generator = _generator()
    anew = {path.name: path.read_text() for path in generator.generate(tmp_path)}
    committed = {path.name: path.read_text() for path in generator.TARGET.glob("*.py*") if path.is_file()}
    assert anew == committed


def test_generating_twice_gives_the_same_files(tmp_path):
    generator = _generator()
    once = [path.read_bytes() for path in generator.generate(tmp_path)]
    assert [path.read_bytes() for path in generator.generate(tmp_path)] == once


def test_services_bear_the_names_that_the_kubelet_dials():
    assert pb.DESCRIPTOR.package == "v1beta1"
    methods = {
        name: [method.name for method in service.methods] for name, service in pb.DESCRIPTOR.services_by_name.items()
    }
    assert methods == {
        "Registration": ["Register"],
        "DevicePlugin": [
            "GetDevicePluginOptions",
            "ListAndWatch",
            "GetPreferredAllocation",
            "Allocate",
            "PreStartContainer",
        ],
    }


def test_field_numbers_are_those_on_the_wire():
    container = pb.ContainerAllocateResponse(
        envs={"A": "b"}, mounts=[pb.Mount(container_path="c", host_path="h", read_only=True)]
    )
    assert container.SerializeToString() == bytes.fromhex("0a060a0141120162 12080a0163120168 1801")
    device = pb.Device(ID="d", health="Healthy", topology=pb.TopologyInfo(nodes=[pb.NUMANode(ID=1)]))
    assert device.SerializeToString() == bytes.fromhex("0a0164 12074865616c746879 1a040a020801")
    register = pb.RegisterRequest(version="v", endpoint="e", resource_name="r", options=pb.DevicePluginOptions())
    assert register.SerializeToString() == bytes.fromhex("0a0176 120165 1a0172 2200")
