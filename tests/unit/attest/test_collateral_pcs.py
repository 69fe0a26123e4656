from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote as url_encoded

import pytest
from cryptography import x509

from bastide.attest.collateral.catalogue import Catalogue, PlatformKind
from bastide.attest.collateral.pcs import (
    PCK_CRL,
    QE_IDENTITY,
    ROOT_CA_CRL,
    TCB_INFO,
    Answer,
    Endpoint,
    assemble,
    certified_kind,
    check_not_older,
    questions,
)
from bastide.dcap import Collateral
from bastide.dcap.tcb import TDX
from bastide.errors import BastideError, ConfigError, MalformedError
from bastide.pki.chain import INTEL_ROOT, dump_pem_chain
from bastide.sgx.quote import Quote
from bastide.sim.intel import CrlProfile, Window, issue_crl
from support import sgx_values
from support.evidence import ISSUED, world, world_at
from support.pcs import OTHER_FMSPC, answers, collateral_at, pki_of

HOST = "https://pccs.example.org:8081"


def _quote() -> Quote:
    return world().quote(sgx_values.report_body())


def _kind(quote: Quote | None = None) -> PlatformKind:
    kind = Catalogue(()).kind(quote or _quote())
    assert kind is not None
    return kind


def _code(given: dict[str, Answer]) -> str:
    with pytest.raises(BastideError) as caught:
        assemble(_kind(), given, world().root)
    return caught.value.code


def _processor_crl() -> dict[str, Answer]:
    """A good CRL of the other CA with a good chain, which is not for this platform."""
    pki = pki_of(world())
    window = Window.of(ISSUED, timedelta(days=30))
    chain = url_encoded(dump_pem_chain((pki.processor_ca.certificate, pki.root.certificate)))
    crl = issue_crl(CrlProfile(window=window), pki.processor_ca)
    return {**answers(world()), PCK_CRL: Answer(body=crl, headers={"sgx-pck-crl-issuer-chain": chain})}


@pytest.mark.parametrize("url", [HOST, f"{HOST}/", f"{HOST}/sgx/certification/v4", f"{HOST}/sgx/certification/v4/"])
def test_asks_a_pccs_for_what_a_quotes_platform_needs(url: str) -> None:
    fmspc = _kind().fmspc.hex().upper()
    assert [one.url for one in questions(Endpoint.parse(url), _kind())] == [
        f"{HOST}/sgx/certification/v4/tcb?fmspc={fmspc}",
        f"{HOST}/sgx/certification/v4/qe/identity",
        f"{HOST}/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        f"{HOST}/sgx/certification/v4/rootcacrl",
    ]


def test_version_3_a_prefix_and_another_place_of_the_root_crl_are_kept() -> None:
    endpoint = Endpoint.parse(f"{HOST}/cache/sgx/certification/v3", root_crl="https://crl.example.org/root.der")
    asked = questions(endpoint, _kind())
    assert asked[1].url == f"{HOST}/cache/sgx/certification/v3/qe/identity"
    assert asked[3].url == "https://crl.example.org/root.der"


def test_asks_for_a_trust_domains_platform_at_the_tdx_paths() -> None:
    kind = replace(_kind(), tee=TDX)
    urls = [one.url for one in questions(Endpoint.parse(HOST), kind)]
    assert [url.split("/")[3] for url in urls] == ["tdx", "tdx", "sgx", "sgx"]
    with pytest.raises(MalformedError, match=r"upstream\.tdx"):
        questions(Endpoint.parse(f"{HOST}/sgx/certification/v3"), kind)


def test_the_processor_ca_has_its_own_crl_and_a_stranger_none() -> None:
    processor = replace(_kind(), issuer=pki_of(world()).processor_ca.certificate.subject)
    assert "ca=processor&" in questions(Endpoint.parse(HOST), processor)[2].url
    with pytest.raises(MalformedError, match=r"upstream\.ca"):
        questions(Endpoint.parse(HOST), replace(_kind(), issuer=x509.Name([])))


@pytest.mark.parametrize(
    "url",
    [
        "http://pccs.example.org",
        "https://",
        "https://user@pccs.example.org",
        "https://pccs.example.org:0",
        "https://pccs.example.org:x",
        f"{HOST}/sgx/certification/v2",
        f"{HOST}/sgx/certification/v4/tcb",
        f"{HOST}/../sgx/certification/v4x",
        f"{HOST}?a=b",
        f"{HOST}#a",
        f"{HOST}/\n",
        "https://pccs.exämple.org",
    ],
)
def test_refuses_a_url_that_is_no_collateral_services(url: str) -> None:
    with pytest.raises(ConfigError, match=r"upstream\.url"):
        Endpoint.parse(url)


def test_intels_own_service_needs_the_root_crl_from_elsewhere_over_https() -> None:
    with pytest.raises(ConfigError, match=r"upstream\.root-crl"):
        Endpoint.parse("https://api.trustedservices.intel.com")
    with pytest.raises(ConfigError, match=r"upstream\.url"):
        Endpoint.parse(HOST, root_crl="http://crl.example.org/root.der")


@pytest.mark.parametrize("version", [3, 4])
def test_puts_answers_together(version: int) -> None:
    bundle = assemble(_kind(), answers(world(), version=version), world().root)
    assert bundle.prepared.collateral == world().collateral
    assert bundle.kind == _kind()


def test_takes_crls_in_hex() -> None:
    given = answers(world())
    for part in (PCK_CRL, ROOT_CA_CRL):
        given[part] = replace(given[part], body=given[part].body.hex().encode())
    assemble(_kind(), given, world().root)


@pytest.mark.parametrize("part", [TCB_INFO, QE_IDENTITY, PCK_CRL, ROOT_CA_CRL])
def test_refuses_answers_that_are_no_collateral(part: str) -> None:
    given = answers(world())
    assert _code({**given, part: replace(given[part], body=b"{}")}).startswith("collateral.")
    assert _code({name: answer for name, answer in given.items() if name != part}) == "collateral.upstream.part"


@pytest.mark.parametrize("part", [TCB_INFO, QE_IDENTITY, PCK_CRL])
@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (None, "collateral.upstream.header"),
        ("x" * 40_000, "collateral.upstream.header"),
        ("%00%ff", "pki.chain."),
        ("", "pki.chain."),
    ],
)
def test_refuses_an_issuer_chain_that_is_none(part: str, chain: str | None, code: str) -> None:
    given = answers(world())
    headers = {} if chain is None else dict.fromkeys(given[part].headers, chain)
    assert _code({**given, part: replace(given[part], headers=headers)}).startswith(code)


def test_refuses_documents_with_two_signing_chains() -> None:
    given, other = answers(world()), answers(world_at(ISSUED))
    assert _code({**given, QE_IDENTITY: other[QE_IDENTITY]}) == "collateral.upstream.chains"


def test_refuses_everything_under_another_root() -> None:
    assert _code(answers(world_at(ISSUED))) == "collateral.bundle.signature"
    with pytest.raises(BastideError, match=r"bundle\.signature"):
        assemble(_kind(), answers(world()), INTEL_ROOT)


@pytest.mark.parametrize("lie", ["body", "chain", "both"])
def test_refuses_a_pck_crl_that_does_not_lead_to_the_root(lie: str) -> None:
    given, other = answers(world())[PCK_CRL], answers(world_at(ISSUED))[PCK_CRL]
    body = given.body if lie == "chain" else other.body
    headers = given.headers if lie == "body" else other.headers
    assert _code({**answers(world()), PCK_CRL: Answer(body=body, headers=headers)}) == "collateral.upstream.pck-crl"


def test_refuses_a_pck_crl_of_a_ca_that_only_stands_beside_the_root() -> None:
    strange, own = pki_of(world_at(ISSUED)), pki_of(world())
    chain = url_encoded(dump_pem_chain((strange.platform_ca.certificate, own.root.certificate)))
    crl = issue_crl(CrlProfile(window=Window.of(ISSUED, timedelta(days=30))), strange.platform_ca)
    lie = Answer(body=crl, headers={"sgx-pck-crl-issuer-chain": chain})
    assert _code({**answers(world()), PCK_CRL: lie}) == "collateral.upstream.pck-crl"


def test_refuses_collateral_for_another_platform_or_ca() -> None:
    other: Collateral = collateral_at(world(), ISSUED, fmspc=OTHER_FMSPC)
    assert _code(answers(world(), other)) == "collateral.upstream.other"
    assert _code(_processor_crl()) == "collateral.upstream.other"


def test_refuses_parts_that_are_older_than_those_at_hand() -> None:
    new = assemble(_kind(), answers(world(), collateral_at(world(), ISSUED + timedelta(days=1))), world().root)
    old = assemble(_kind(), answers(world()), world().root)
    check_not_older(new, old)
    check_not_older(old, old)
    with pytest.raises(BastideError, match=r"upstream\.older"):
        check_not_older(old, new)
    with pytest.raises(BastideError, match=r"upstream\.older"):
        check_not_older(replace(new, number=old.number - 1), old)
    mixed = replace(new.prepared.collateral, root_ca_crl=old.prepared.collateral.root_ca_crl)
    with pytest.raises(BastideError, match=r"root CRL"):
        check_not_older(assemble(_kind(), answers(world(), mixed), world().root), new)


def test_only_quotes_whose_certificates_lead_to_the_root_are_worth_a_question() -> None:
    quote = _quote()
    assert certified_kind(quote, _kind(), world().root)
    assert not certified_kind(quote, _kind(), INTEL_ROOT)
    stranger = world_at(ISSUED).quote(sgx_values.report_body())
    assert not certified_kind(stranger, _kind(stranger), world().root)


def test_a_strangers_leaf_below_real_authorities_is_worth_none() -> None:
    leaf, *_ = world_at(ISSUED).pck_chain.split(b"-----END CERTIFICATE-----\n", 1)
    _, rest = world().pck_chain.split(b"-----END CERTIFICATE-----\n", 1)
    quote = _quote()
    forged = leaf + b"-----END CERTIFICATE-----\n" + rest
    quote = replace(quote, certification=replace(quote.certification, data=forged))
    assert not certified_kind(quote, _kind(quote), world().root)
    end = b"-----END CERTIFICATE-----\n"
    strange = end.join(world_at(ISSUED).pck_chain.split(end)[:2]) + end
    beside = strange + dump_pem_chain((pki_of(world()).root.certificate,))
    quote = replace(quote, certification=replace(quote.certification, data=beside))
    assert not certified_kind(quote, _kind(quote), world().root), "a made-up CA beside the real root"
    rootless = dump_pem_chain((pki_of(world()).platform_ca.certificate,))
    quote = replace(quote, certification=replace(quote.certification, data=rootless))
    assert not certified_kind(quote, _kind(), world().root)
    assert not certified_kind(
        replace(quote, certification=replace(quote.certification, data=b"x")), _kind(), world().root
    )
