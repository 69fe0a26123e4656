import os
import subprocess
import sys
from pathlib import Path

import pytest

from bastide.node.machine import cpuid as cpuid_module
from bastide.node.machine.bundle import node_files, this_machine
from bastide.node.machine.cpuid import native_cpuid
from bastide.node.machine.files import LARGEST_FILE, FileKind, FolderFiles
from bastide.node.machine.hardware import MachineHardware


def _no_cpuid(leaf, subleaf):
    raise OSError("not asked")


def _tree(root):
    return FolderFiles(root, _no_cpuid)


def test_reads_files_below_its_root_alone(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "x").write_bytes(b"inside")
    assert _tree(tmp_path).read("/proc/x") == b"inside"
    with pytest.raises(FileNotFoundError):
        _tree(tmp_path).read("/etc/passwd")


def test_links_are_followed_as_on_the_node_and_never_lead_out(tmp_path):
    root = tmp_path / "root"
    (root / "run" / "aesmd").mkdir(parents=True)
    (root / "run" / "aesmd" / "x").write_bytes(b"inside")
    (root / "var").mkdir()
    (root / "var" / "run").symlink_to("/run")
    (root / "up").symlink_to("../../../../run")
    (tmp_path / "secret").write_bytes(b"outside")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out2").symlink_to("../secret")
    assert _tree(root).read("/var/run/aesmd/x") == b"inside"
    assert _tree(root).read("/up/aesmd/x") == b"inside"
    for path in ("/out", "/out2", "/../secret"):
        with pytest.raises(FileNotFoundError):
            _tree(root).read(path)


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="links"):
        _tree(tmp_path).read("/a")


def test_a_fifo_is_not_read_and_a_long_file_not_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in ("/fifo", "/"):
        with pytest.raises(OSError, match="regular"):
            _tree(tmp_path).read(path)
    (tmp_path / "long").write_bytes(bytes(LARGEST_FILE + 1))
    assert len(_tree(tmp_path).read("/long")) == LARGEST_FILE


def test_the_nearest_folder_is_that_of_the_file_or_of_what_would_have_to_be_made(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    tree = _tree(tmp_path)
    assert tree.nearest_folder("/var/run/aesmd/aesm.socket") == tmp_path / "run"
    (tmp_path / "run/aesmd").mkdir()
    assert tree.nearest_folder("/var/run/aesmd/aesm.socket") == tmp_path / "run/aesmd"
    assert tree.nearest_folder("/dev/sgx/enclave") == tmp_path
    assert FolderFiles(Path("/"), _no_cpuid).nearest_folder("/dev/null") == Path("/dev")


def test_status_tells_kind_owner_and_numbers(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0o640)
    status = _tree(tmp_path).status("/file")
    assert (status.kind, status.ownership.uid, status.ownership.mode) == (FileKind.FILE, os.getuid(), 0o640)
    null = FolderFiles(Path("/"), _no_cpuid).status("/dev/null")
    assert (null.kind, null.number) == (FileKind.CHARACTER_DEVICE, (1, 3))


def test_this_machine_answers_whatever_it_is():
    hardware = MachineHardware(this_machine())
    assert hardware.inventory() == hardware.inventory()
    assert hardware.inventory().kernel == os.uname().release


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="CPUID is an instruction of x86")
def test_cpuid_names_the_vendor_that_the_kernel_names():
    _, ebx, ecx, edx = native_cpuid()(0, 0)
    vendor = b"".join(each.to_bytes(4, "little") for each in (ebx, edx, ecx)).decode()
    assert f"vendor_id\t: {vendor}\n" in Path("/proc/cpuinfo").read_text()


def test_on_other_architectures_cpuid_is_an_error(monkeypatch):
    monkeypatch.setattr(cpuid_module.platform, "machine", lambda: "aarch64")
    with pytest.raises(OSError, match="aarch64"):
        native_cpuid()(0, 0)


_FORBIDDEN_TO_EXECUTE = """
import ctypes
from bastide.node.machine.cpuid import native_cpuid
PR_SET_MDWE = 65
if ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0):
    print("unknown")
else:
    try:
        print(native_cpuid()(0, 0))
    except OSError as error:
        print("refused", error)
"""


def test_where_fresh_code_may_not_be_executed_cpuid_is_an_error_and_no_crash():
    ran = subprocess.run([sys.executable, "-c", _FORBIDDEN_TO_EXECUTE], capture_output=True, text=True, check=False)
    if ran.stdout.startswith("unknown"):
        pytest.skip("this kernel cannot forbid it (prctl PR_SET_MDWE, 6.3)")
    assert ran.returncode == 0, ran
    assert ran.stdout.startswith("refused")


def test_a_mount_of_this_machines_root_has_its_cpu_and_a_copied_tree_has_not(tmp_path):
    boot = "proc/sys/kernel/random/boot_id"
    (tmp_path / boot).parent.mkdir(parents=True)
    (tmp_path / boot).write_text("another boot")
    with pytest.raises(OSError, match="folder"):
        node_files(tmp_path).cpuid(0, 0)
    (tmp_path / boot).write_bytes(Path("/", boot).read_bytes())
    if os.uname().machine == "x86_64":
        assert node_files(tmp_path).cpuid(0, 0) == native_cpuid()(0, 0)
