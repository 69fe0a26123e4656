import pytest

from bastide.node.machine.usage import kernel_counters, pod_uid, read_usage

UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
MAPS = b"""7f0000000000-7f0000400000 rw-s 00000000 00:06 125    /dev/sgx_enclave
7f0000400000-7f0000500000 r-xs 00000000 00:06 125    /dev/sgx_enclave
7f0000500000-7f0000600000 r-xp 00000000 08:01 42     /usr/lib/libsgx_enclave.so
"""


def _process(root, number, maps, cgroup):
    folder = root / "proc" / str(number)
    folder.mkdir(parents=True)
    (folder / "maps").write_bytes(maps)
    (folder / "cgroup").write_text(cgroup)


@pytest.fixture
def machine(tmp_path):
    namespace = tmp_path / "proc" / "self" / "ns"
    namespace.mkdir(parents=True)
    (namespace / "pid").symlink_to("pid:[4026531836]")
    cgroup = f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-x.scope\n"
    _process(tmp_path, 7, MAPS, cgroup)
    _process(tmp_path, 8, MAPS, cgroup)
    _process(tmp_path, 9, MAPS, "0::/system.slice/aesmd.service\n")
    _process(tmp_path, 10, b"", cgroup)
    (tmp_path / "proc" / "11").mkdir()
    return tmp_path


def test_mapped_is_the_sum_of_enclave_mappings_of_all_processes_of_a_pod(machine):
    assert read_usage(machine).mapped == {UID: 2 * 0x500000}


def test_in_a_process_namespace_of_its_own_nothing_is_seen_rather_than_zero(machine):
    link = machine / "proc" / "self" / "ns" / "pid"
    link.unlink()
    link.symlink_to("pid:[4026532222]")
    assert read_usage(machine).mapped is None


def test_without_a_proc_nothing_is_known(tmp_path):
    assert read_usage(tmp_path).mapped is None
    assert read_usage(tmp_path).resident is None


@pytest.mark.parametrize(
    "folder",
    [f"kubepods/burstable/pod{UID}", f"kubepods.slice/kubepods-besteffort.slice/x-pod{UID.replace('-', '_')}.slice"],
)
def test_resident_is_what_the_kernel_accounts_to_a_pods_cgroup(tmp_path, folder):
    pod = tmp_path / "sys/fs/cgroup" / folder
    (pod / "container").mkdir(parents=True)
    (pod / "misc.current").write_text("sev 0\nsgx_epc 8192\n")
    (pod / "container" / "misc.current").write_text("sgx_epc 8192\n")
    elsewhere = tmp_path / "sys/fs/cgroup/user.slice" / f"pod{UID}"
    elsewhere.mkdir(parents=True)
    (elsewhere / "misc.current").write_text("sgx_epc 1\n")
    assert read_usage(tmp_path).resident == {UID: 8192}


def test_a_misc_controller_without_epc_tells_nothing(tmp_path):
    pod = tmp_path / "sys/fs/cgroup/kubepods" / f"pod{UID}"
    pod.mkdir(parents=True)
    (pod / "misc.current").write_text("sev 0\n")
    assert read_usage(tmp_path).resident is None


def test_counters_of_a_driver_that_counts_are_taken_as_they_are(tmp_path):
    assert kernel_counters(tmp_path) == {}
    folder = tmp_path / "sys/module/isgx/parameters"
    folder.mkdir(parents=True)
    for name, text in {"sgx_nr_free_pages": "23\n", "sgx_nr_odd": "x", "other": "1"}.items():
        (folder / name).write_text(text)
    assert kernel_counters(tmp_path) == {"sgx_nr_free_pages": 23}


@pytest.mark.parametrize("cgroup", ["", "0::/", "0::/kubepods/podnot-a-uid/x"])
def test_a_cgroup_of_no_pod_names_none(cgroup):
    assert pod_uid(cgroup) is None
