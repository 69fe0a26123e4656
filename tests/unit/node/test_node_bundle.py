import gzip
import io
import json
import tarfile

import pytest

from bastide.errors import ConfigError, MalformedError
from bastide.node.inventory import Signal
from bastide.node.machine.around import read_facts
from bastide.node.machine.bundle import LARGEST_BUNDLE, build_bundle, node_files, parse_bundle
from bastide.node.machine.capture import INDEX, build_index, parse_capture, without_secrets
from support.nodes import FORBIDDEN, captured, plain_node, sgx_node


@pytest.mark.parametrize("node", [sgx_node, plain_node])
def test_a_bundle_tells_the_same_facts_as_the_node(node):
    assert read_facts(parse_bundle(build_bundle(captured(node())))) == read_facts(node())


def test_what_was_forbidden_then_is_unseen_now():
    files = sgx_node()
    files.registers = FORBIDDEN
    files.folders["/var/lib/kubelet/device-plugins"] = FORBIDDEN
    again = read_facts(parse_bundle(build_bundle(captured(files))))
    assert again == read_facts(files)
    assert again.inventory.why_unseen(Signal.DEVICE_PLUGINS) == "/var/lib/kubelet/device-plugins: Permission denied"


def test_the_same_node_gives_the_same_bytes():
    assert build_bundle(captured(sgx_node())) == build_bundle(captured(sgx_node()))


def test_secrets_stay_on_the_node():
    files = sgx_node()
    files.contents["/etc/sgx_default_qcnl.conf"] = (
        b'{"pccs_url": "https://user:hunter2@pccs.example/v4/?key=hunter2",'
        b' "custom_request_options": {"get_cert": {"headers": {"k": "hunter2"}}}}'
    )
    plain = gzip.decompress(build_bundle(captured(files)))
    for secret in (b"hunter2", b"secret-uid", b"CONFIG_SECRET", b"fpu", b"user"):
        assert secret not in plain
    assert read_facts(parse_bundle(build_bundle(captured(files)))).around.quote_provider.custom_requests


def test_a_quote_provider_file_that_cannot_be_read_is_left_out_and_stays_a_fault():
    files = sgx_node()
    files.contents["/etc/sgx_default_qcnl.conf"] = b'{"pccs_url": hunter2}'
    bundle = build_bundle(captured(files))
    assert b"hunter2" not in gzip.decompress(bundle)
    assert read_facts(parse_bundle(bundle)).around.quote_provider_fault


def test_a_file_that_nobody_judged_is_never_captured():
    with pytest.raises(OSError, match="never"):
        without_secrets("/etc/shadow", b"root")


def test_a_question_that_was_not_asked_is_unseen():
    taken = captured(plain_node())
    with pytest.raises(OSError, match="not captured"):
        taken.read("/dev/something-new")


def test_a_folder_with_a_capture_reads_no_file_that_its_index_does_not_name(tmp_path):
    taken = captured(plain_node())
    (tmp_path / INDEX).write_bytes(build_index(taken))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "sgx_default_qcnl.conf").write_bytes(b"{}")
    assert read_facts(node_files(tmp_path)).around.quote_provider is None


def _bundle_of(members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, raw in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "node.bundle.syntax"),
        (b"not gzip", "node.bundle.syntax"),
        pytest.param(gzip.compress(b"not tar" * 200), "node.bundle.syntax", id="gzip, not tar"),
        pytest.param(build_bundle(captured(plain_node()))[:-40], "node.bundle.syntax", id="cut"),
        (gzip.compress(bytes(LARGEST_BUNDLE + 1)), "node.bundle.size"),
        (bytes(LARGEST_BUNDLE + 1), "node.bundle.size"),
        (_bundle_of({f"f{n}": b"" for n in range(2001)}), "node.bundle.size"),
        pytest.param(_bundle_of({"x": b""}), "node.bundle.index", id="no index"),
        pytest.param(_bundle_of({INDEX: b"{}"}), "node.capture.format", id="empty index"),
    ],
)
def test_refuses_what_is_no_bundle(raw, code):
    with pytest.raises(MalformedError) as refused:
        parse_bundle(raw)
    assert refused.value.code == code


def _index(**changes):
    tree = {"bastide_capture": 1, "files": [], "status": {}, "names": {}, "cpuid": {}, "unread": {}} | changes
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[" * 100_000,
        _index(files=["relative"]),
        _index(files=3),
        _index(status={"/x": {}}),
        _index(status={"/x": {"kind": "no-kind", "uid": 0, "gid": 0, "mode": "0", "number": None}}),
        _index(status={"/x": {"kind": "file", "uid": -1, "gid": 0, "mode": "0", "number": None}}),
        _index(cpuid={"0.0": [1, 2, 3]}),
        _index(cpuid={"0.0": [1, 2, 3, 1 << 32]}),
        _index(cpuid={"zz": [0, 0, 0, 0]}),
        _index(names={"/x": "y"}),
        _index(unread={"/x": 3}),
        _index(unread=[]),
    ],
)
def test_refuses_an_index_that_is_not_one(index):
    with pytest.raises(MalformedError) as refused:
        parse_capture(index, lambda path: b"")
    assert refused.value.code == "node.capture.syntax"


def test_refuses_a_place_where_nothing_is(tmp_path):
    with pytest.raises(ConfigError) as refused:
        node_files(tmp_path / "nothing")
    assert refused.value.code == "node.root.absent"
