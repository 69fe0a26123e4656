import pytest

from bastide.pods.lint_process import Enabler, processes
from bastide.pods.request import sgx_request
from bastide.pods.tree import Path
from support.pods import EPC, Tree, container, pod

SGX: Tree = {EPC: "10Mi"}


def found(*containers: Tree, known: dict[Path, Enabler] | None = None) -> list[tuple[str, str]]:
    tree = pod(*containers)
    return [(one.code, one.message) for one in processes(tree, sgx_request(tree), known)]


@pytest.mark.parametrize(
    ("fields", "enabler"),
    [
        ({"command": ["gramine-sgx", "bash", "-c", "ls"]}, "Gramine"),
        ({"command": ["/bin/sh", "-c", "exec gramine-sgx ./nginx -g daemon"]}, "Gramine"),
        ({"command": ["occlum"], "args": ["run", "/bin/bash", "start.sh"]}, "Occlum"),
        ({"args": ["occlum", "exec", "/usr/bin/supervisord"]}, "Occlum"),
        ({"command": ["ego", "run", "sh"]}, "EGo"),
    ],
)
def test_a_shell_behind_a_launcher_runs_in_the_enclave_for_certain(fields: Tree, enabler: str) -> None:
    ((code, message),) = found(container(SGX, **fields))
    assert code == "process.in-enclave"
    assert f"enclave of {enabler}" in message


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ["gramine-sgx", "redis-server", "--save", ""]},
        {"command": ["bash", "-c", "occlum run /bin/server 0.0.0.0:5000"]},
        {"command": ["ego", "run", "/home/main"]},
        {"command": ["/opt/intel/app"]},
        {"command": ["bash", "-c", "./app"]},
        {"args": ["-c", "print('HelloWorld!')"]},
        {"command": "<exec>"},
        {},
    ],
)
def test_says_nothing_where_no_enclave_starts_processes_or_nobody_can_know(fields: Tree) -> None:
    assert found(container(SGX, **fields)) == []


@pytest.mark.parametrize(
    ("image", "enabler"),
    [
        ("gramineproject/gsc-redis:7", "Gramine"),
        ("registry.example/team/gsc-redis:7", "Gramine"),
        ("occlum/occlum:0.30", "Occlum"),
        ("registry.scontain.com/sconecuratedimages/apps:redis-6", "SCONE"),
    ],
)
def test_an_image_that_only_sounds_like_an_enabler_is_a_guess_and_said_so(image: str, enabler: str) -> None:
    ((code, message),) = found(container(SGX, image=image, command=["/bin/sh", "-c", "./start"]))
    assert code == "process.guess"
    assert "(a guess)" in message
    assert enabler in message
    assert "replaces the image's entrypoint" in message


def test_arguments_alone_do_not_replace_the_entrypoint() -> None:
    ((_, message),) = found(container(SGX, image="gramine/app:1", args=["bash", "-c", "x"]))
    assert "entrypoint" not in message


def test_an_image_that_was_looked_into_is_no_guess() -> None:
    path: Path = ("spec", "containers", 0)
    ((code, message),) = found(container(SGX, command=["bash"]), known={path: Enabler.GRAMINE})
    assert code == "process.in-image"
    assert "a guess" not in message


def test_containers_without_an_enclave_may_start_what_they_like() -> None:
    assert found(container(image="gramine/app:1", command=["bash"])) == []


def test_a_command_line_of_any_length_is_looked_at_within_bounds() -> None:
    assert found(container(SGX, command=["x " * 1_000_000], args=["bash"] * 100_000)) == []
