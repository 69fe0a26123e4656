import socket

import pytest

from bastide.node.machine.reach import ask_collateral
from bastide.node.quoteprovider import QuoteProviderConfig
from support.api_server import api_server


def _config(port):
    return QuoteProviderConfig(pccs_url="http://x/", collateral_url=f"http://127.0.0.1:{port}/sgx/certification/v4/")


@pytest.mark.parametrize("status", [200, 404, 503])
def test_asks_for_the_root_revocation_list_and_tells_the_status(status):
    with api_server(lambda _, answer: answer.reply(status, {})) as api:
        assert ask_collateral(_config(api.access.port)) == f"HTTP {status} from 127.0.0.1"
    assert [one.path for one in api.asked] == ["/sgx/certification/v4/rootcacrl"]


def test_a_service_that_is_not_there_gives_no_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ask_collateral(_config(free.getsockname()[1])).startswith("no answer from 127.0.0.1: ")


def test_a_service_that_talks_something_else_gives_no_answer():
    def nonsense(_asked, answer):
        answer._handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
        answer.drop()

    with api_server(nonsense) as api:
        assert ask_collateral(_config(api.access.port)).startswith("no answer from ")
