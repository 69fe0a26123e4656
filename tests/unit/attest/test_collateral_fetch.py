"""Fetching over TLS from a service that is well, slow, down, or up to something."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from urllib.parse import urlsplit

import pytest

from bastide.attest.collateral.fetch import Fetcher
from bastide.attest.collateral.pcs import LARGEST_BODY, ROOT_CA_CRL, Endpoint, assemble, questions, root_question
from bastide.attest.collateral.upstream import UpstreamCollateral
from bastide.attest.server import CollateralService
from bastide.errors import BastideError, ConfigError, UnavailableError
from support import sgx_values
from support.attest_server import live_world, options, served
from support.evidence import ISSUED, world
from support.pcs import Fault, Pcs, Scripted, answers, compressed, dripping, huge, pcs, status
from support.signers import b64


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Pcs]:
    with pcs(tmp_path / "pcs", answers(world())) as running:
        yield running


def _ask(service: Pcs, seconds: float = 5.0) -> object:
    kind = _kind(service)
    return Fetcher(str(service.ca), seconds=seconds)(questions(Endpoint.parse(service.url), kind))


def _kind(service: Pcs) -> object:
    scripted = Scripted(answers=answers(world()))
    source = UpstreamCollateral(
        Endpoint.parse(service.url), scripted, world().root, clock=lambda: ISSUED, kept=service.ca.parent / "kept"
    )
    source.find(world().quote(sgx_values.report_body()), ISSUED)
    return source.bundles[0].kind


@pytest.mark.parametrize("hex_root_crl", [True, False])
def test_fetches_what_makes_a_bundle(service: Pcs, *, hex_root_crl: bool) -> None:
    service.hex_root_crl = hex_root_crl
    bundle = assemble(_kind(service), _ask(service), world().root)
    assert bundle.prepared.collateral.tcb_info == world().collateral.tcb_info
    assert len(service.asked) == 4


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (status(404), "collateral.upstream.unknown"),
        (status(461), "collateral.upstream.unknown"),
        (status(500), "collateral.upstream.unavailable"),
        (status(503), "collateral.upstream.unavailable"),
        (status(302, {"Location": "https://127.0.0.1:1/"}), "collateral.upstream.unavailable"),
        (huge, "collateral.upstream.size"),
        (compressed, "collateral.upstream.encoding"),
    ],
    ids=["404", "461", "500", "503", "redirect", "huge", "compressed"],
)
def test_explains_an_answer_that_is_none(service: Pcs, fault: Fault, code: str) -> None:
    service.fault = fault
    with pytest.raises(BastideError) as caught:
        _ask(service)
    assert caught.value.code == code


@pytest.mark.parametrize(("more", "ok"), [(0, True), (1, False)])
def test_a_body_may_be_as_large_as_a_part_and_no_larger(service: Pcs, more: int, *, ok: bool) -> None:
    service.hex_root_crl = False
    service.put(ROOT_CA_CRL, bytes(LARGEST_BODY + more))
    question = [root_question(Endpoint.parse(service.url))]
    if ok:
        assert len(Fetcher(str(service.ca))(question)[ROOT_CA_CRL].body) == LARGEST_BODY
        return
    with pytest.raises(BastideError, match=r"upstream\.size"):
        Fetcher(str(service.ca))(question)


def test_a_redirect_is_not_followed(service: Pcs, tmp_path: Path) -> None:
    with pcs(tmp_path / "other", answers(world())) as other:
        service.fault = status(307, {"Location": other.url})
        with pytest.raises(UnavailableError, match="redirects are not followed"):
            _ask(service)
        assert other.asked == []


@pytest.mark.parametrize("fault", [dripping, lambda *_: bool(time.sleep(1.5))], ids=["dripping", "silent"])
def test_a_slow_service_is_given_up(service: Pcs, fault: Fault) -> None:
    service.fault = fault
    before = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no whole answer within|no answer"):
        _ask(service, 0.4)
    assert time.monotonic() - before < 1.4


def test_a_service_that_is_down_or_not_trusted_is_unavailable(service: Pcs) -> None:
    with pytest.raises(UnavailableError) as caught:
        Fetcher()(questions(Endpoint.parse(service.url), _kind(service)))
    assert "--collateral-ca-cert" in str(caught.value.hint)
    with pytest.raises(UnavailableError, match="no answer"):
        Fetcher(str(service.ca))(questions(Endpoint.parse("https://127.0.0.1:1"), _kind(service)))


def test_a_proxy_of_the_environment_is_not_used(service: Pcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    _ask(service)


def test_certificate_authorities_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"upstream\.ca-file"):
        Fetcher(str(tmp_path / "absent.pem"))


def _get(ca: str, url: str, method: str, path: str, body: str = "") -> tuple[int, str]:
    where = urlsplit(url)
    connection = HTTPSConnection(
        where.hostname or "", where.port, context=create_default_context(cafile=ca), timeout=20
    )
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_server_takes_its_collateral_from_a_service(tmp_path: Path) -> None:
    body = json.dumps({"quote": b64(live_world().quote(sgx_values.report_body()).build())})
    with pcs(tmp_path / "pcs", answers(live_world())) as running:
        given = options(tmp_path, collateral=CollateralService(url=running.url, ca_file=running.ca))

        def ask(method: str, path: str) -> tuple[int, dict[str, object]]:
            code, text = _get(server.ca, server.url, method, path, body)
            return code, json.loads(text)

        with served(given) as server:
            ready = _get(server.ca, server.url, "GET", "/readyz")
            assert ready == (200, "ok\n"), "before the first quote: the service answers"
            running.fault = status(503)
            refused, told = ask("POST", "/simulation/attest/SgxEnclave")
            assert (refused, told["error"]["code"]) == (503, "ServiceUnavailable")
            assert running.url not in json.dumps(told)
        running.fault = status(404)
        with served(given) as server:
            refused, told = ask("POST", "/simulation/attest/SgxEnclave")
            assert refused == 400
            assert "status 404" in told["error"]["message"]
        running.fault = None
        with served(given) as server:
            assert ask("POST", "/simulation/attest/SgxEnclave")[0] == 200
        running.fault = status(503)
        with served(given) as server:
            assert ask("POST", "/simulation/attest/SgxEnclave")[0] == 200, "the last good is kept"
