import pytest

from bastide.pods.hostpaths import guarded_relation, is_aesmd


@pytest.mark.parametrize(
    ("path", "relation"),
    [
        ("/dev/sgx", "is /dev/sgx"),
        ("/dev/sgx/", "is /dev/sgx"),
        ("/dev/sgx_enclave", "is /dev/sgx_enclave"),
        ("/dev/sgx_provision", "is /dev/sgx_provision"),
        ("/dev/sgx_vepc", "is /dev/sgx_vepc"),
        ("/dev/sgx/provision", "is below /dev/sgx"),
        ("/dev/isgx", "is /dev/isgx"),
        ("/dev/gsgx", "is /dev/gsgx"),
        ("/dev/char/10:125", "is below /dev/char"),
        ("/var/run/aesmd", "is /var/run/aesmd"),
        ("/run/aesmd/aesm.socket", "is below /run/aesmd"),
        ("/", "is above every SGX device"),
        ("///", "is above every SGX device"),
        ("/dev", "is above /dev/sgx*"),
        ("/dev/", "is above /dev/sgx*"),
        ("/var", "is above /var/run/aesmd"),
        ("/run", "is above /run/aesmd"),
        ("/var/run", "is above /run/aesmd"),
        ("//dev//sgx_enclave", "is /dev/sgx_enclave"),
        ("/dev/./sgx_enclave", "is /dev/sgx_enclave"),
        ("/tmp/../dev/sgx_enclave", "is /dev/sgx_enclave"),
        ("/tmp/..", "is above every SGX device"),
        ("dev/sgx_enclave", "is /dev/sgx_enclave"),
        ("/proc/1/root/dev/sgx_enclave", "is /dev/sgx_enclave"),
        ("/proc/self/task/7/cwd/", "is above every SGX device"),
        ("/dev/sgx\nx", "is /dev/sgx\nx"),
    ],
)
def test_guards_path(path: str, relation: str) -> None:
    assert guarded_relation(path) == relation


@pytest.mark.parametrize(
    "path",
    ["/data", "/dev/shm", "/dev/kvm", "/var/log", "/run/docker.sock", "/proc", "/home/dev/sgx_enclave", "/device"],
)
def test_leaves_other_paths_alone(path: str) -> None:
    assert guarded_relation(path) is None


def test_tells_the_quoting_daemon_from_devices() -> None:
    assert is_aesmd("/var/run/aesmd/aesm.socket")
    assert is_aesmd("/run/aesmd/")
    assert not is_aesmd("/dev/sgx_enclave")
    assert not is_aesmd("/var/run")
