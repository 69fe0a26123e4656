import socket
from pathlib import Path

import pytest

from bastide.errors import ConfigError
from bastide.node.kubelet.unixsocket import LONGEST_PATH, SocketIdentity, socket_address
from support.bounded import socket_folder


def test_accepts_the_longest_path_that_the_kernel_takes():
    path = "/" + "s" * (LONGEST_PATH - 1)
    assert socket_address(Path(path)) == f"unix:{path}"


def test_refuses_path_one_byte_too_long():
    with pytest.raises(ConfigError) as refused:
        socket_address(Path("/" + "s" * LONGEST_PATH))
    assert refused.value.code == "node.socket.path_length"
    assert "107" in refused.value.message
    assert "108" in refused.value.message


def test_counts_bytes_not_characters():
    with pytest.raises(ConfigError):
        socket_address(Path("/" + "é" * 60))


def test_refuses_relative_path():
    with pytest.raises(ConfigError) as refused:
        socket_address(Path("kubelet.sock"))
    assert refused.value.code == "node.socket.path_relative"


def test_percent_signs_reach_the_file_system_as_they_are():
    assert socket_address(Path("/run/a%20b")) == "unix:/run/a%2520b"


def test_a_socket_made_anew_at_the_same_path_is_another_one():
    with socket_folder() as folder:
        path = folder / "s"
        assert SocketIdentity.of(path) is None
        seen = []
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
                seen.append(SocketIdentity.of(path))
                assert SocketIdentity.of(path) == seen[-1]
            path.unlink()
    assert None not in seen
    assert seen[0] != seen[1]
