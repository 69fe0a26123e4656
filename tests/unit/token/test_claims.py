import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import Quote
from bastide.sgx.report import ReportBody
from bastide.token.claims import (
    DEPRECATED_POLICY_CLAIMS,
    CollateralHashes,
    RuntimeData,
    Scalar,
    TcbFacts,
    TokenFrame,
    enclave_claims,
    evidence_claims,
    evidence_json,
    incoming_claims,
    sgx_claims,
)
from bastide.token.json_text import Json
from support.recorded import Attestation, attestations
from support.sgx_values import attributes, report_body
from support.tokens import ISSUER, NOW
from support.vectors import vectors

_HASHES = CollateralHashes(
    qeidcertshash="1" * 64,
    qeidcrlhash="2" * 64,
    qeidhash="3" * 64,
    quotehash="4" * 64,
    tcbinfocertshash="5" * 64,
    tcbinfocrlhash="6" * 64,
    tcbinfohash="7" * 64,
)
_TCB = TcbFacts(
    status="SWHardeningNeeded",
    date=datetime(2024, 3, 13, tzinfo=UTC),
    advisory_ids=("INTEL-SA-00001", "INTEL-SA-00002"),
    evaluation_data_number=17,
    simulation=False,
)
_FRAME = TokenFrame(issuer=ISSUER, issued_at=NOW, lifetime=timedelta(hours=8), jti="ab" * 32)
_DIFFERS = {"exp", "iat", "nbf", "iss", "jti", "x-ms-policy-signer", "x-ms-sgx-collateral", "maa-attestationcollateral"}


def _claims(
    *,
    report: ReportBody | None = None,
    tcb: TcbFacts = _TCB,
    runtime: RuntimeData | None = None,
    issued: tuple[tuple[str, Scalar], ...] = (),
) -> dict[str, Json]:
    body = report or report_body()
    common = enclave_claims(body, tcb, policy_hash="hash", issued=issued)
    return sgx_claims(common, frame=_FRAME, report_data=body.report_data, collateral=_HASHES, runtime=runtime)


def test_builds_the_whole_claim_set_in_alphabetical_order() -> None:
    claims = _claims()
    hashes = {name: str(digit) * 64 for digit, name in enumerate(sorted(_HASHES.__slots__), start=1)}
    assert list(claims) == sorted(claims)
    assert claims == {
        "exp": 1795464000,
        "iat": 1795435200,
        "iss": ISSUER,
        "jti": "ab" * 32,
        "maa-attestationcollateral": hashes,
        "nbf": 1795435200,
        "x-bastide-advisory-ids": ["INTEL-SA-00001", "INTEL-SA-00002"],
        "x-bastide-profile": "strict",
        "x-bastide-tcb-date": "2024-03-13T00:00:00Z",
        "x-bastide-tcb-evaluation-data-number": 17,
        "x-bastide-tcb-status": "SWHardeningNeeded",
        "x-ms-attestation-type": "sgx",
        "x-ms-policy-hash": "hash",
        "x-ms-sgx-collateral": hashes,
        "x-ms-sgx-is-debuggable": False,
        "x-ms-sgx-mrenclave": bytes(range(32)).hex(),
        "x-ms-sgx-mrsigner": bytes(range(32, 64)).hex(),
        "x-ms-sgx-product-id": 7,
        "x-ms-sgx-report-data": bytes(range(64)).hex(),
        "x-ms-sgx-svn": 2,
        "x-ms-ver": "1.0",
    }


def test_tells_a_debug_enclave() -> None:
    report = replace(report_body(), attributes=attributes(AttributeFlags.DEBUG))
    assert evidence_claims(report)["x-ms-sgx-is-debuggable"] is True


def test_gives_key_separation_and_sharing_claims_only_with_that_attribute() -> None:
    names = {
        "x-ms-sgx-config-id": "c1" * 64,
        "x-ms-sgx-config-svn": 4,
        "x-ms-sgx-isv-extended-product-id": "eb" * 16,
        "x-ms-sgx-isv-family-id": "fa" * 16,
    }
    report = replace(
        report_body(),
        attributes=attributes(AttributeFlags.KSS),
        config_id=b"\xc1" * 64,
        config_svn=4,
        isv_ext_prod_id=b"\xeb" * 16,
        isv_family_id=b"\xfa" * 16,
    )
    assert names.items() <= evidence_claims(report).items()
    assert not names.keys() & evidence_claims(replace(report, attributes=attributes())).keys()


def test_marks_a_simulation_and_nothing_else() -> None:
    assert "x-bastide-simulation" not in _claims()
    assert _claims(tcb=replace(_TCB, simulation=True))["x-bastide-simulation"] is True


def test_leaves_out_a_tcb_date_that_nobody_knows() -> None:
    assert "x-bastide-tcb-date" not in _claims(tcb=replace(_TCB, date=None))


def test_repeats_binary_runtime_data_under_its_three_names() -> None:
    claims = _claims(runtime=RuntimeData.parse(b"\x01\x02\xfe\xff", is_json=False))
    assert [claims[name] for name in ("x-ms-sgx-ehd", "aas-ehd", "maa-ehd")] == ["AQL-_w"] * 3
    assert "x-ms-runtime" not in claims


def test_gives_json_runtime_data_as_an_object() -> None:
    claims = _claims(runtime=RuntimeData.parse(b' {"keys": [{"kid": "a"}]} ', is_json=True))
    assert claims["x-ms-runtime"] == {"keys": [{"kid": "a"}]}
    assert not {"x-ms-sgx-ehd", "aas-ehd", "maa-ehd"} & claims.keys()


@pytest.mark.parametrize(
    ("raw", "is_json", "code"),
    [
        (b"[1]", True, "token.runtime.object"),
        (b"{", True, "token.json.syntax"),
        (b"x" * 65537, False, "token.runtime.size"),
    ],
)
def test_rejects_bad_runtime_data(raw: bytes, is_json: bool, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        RuntimeData.parse(raw, is_json=is_json)
    assert caught.value.code == code


def test_hashes_runtime_data_as_sent() -> None:
    runtime = RuntimeData.parse(b' {"a": 1}', is_json=True)
    assert runtime.digest == hashlib.sha256(b' {"a": 1}').digest()


def test_places_deprecated_policy_claims_on_top_and_all_others_under_x_ms_policy() -> None:
    claims = _claims(issued=(("svn", 2), ("level", "high"), ("iss", "https://evil"), ("x-ms-sgx-svn", 99)))
    assert claims["svn"] == 2
    assert claims["x-ms-policy"] == {"level": "high", "iss": "https://evil", "x-ms-sgx-svn": 99}
    assert (claims["iss"], claims["x-ms-sgx-svn"]) == (ISSUER, 2)


def test_has_no_x_ms_policy_without_policy_claims() -> None:
    assert "x-ms-policy" not in _claims(issued=(("svn", 2),))


def test_gathers_a_repeated_policy_claim_in_an_array_without_repeats() -> None:
    claims = _claims(issued=(("a", 1), ("a", "x"), ("a", 1), ("a", True), ("b", True), ("b", True)))
    assert claims["x-ms-policy"] == {"a": [1, "x", True], "b": True}


def test_incoming_claims_hold_evidence_aliases_and_tcb_facts() -> None:
    incoming = incoming_claims(report_body(), _TCB)
    known = dict(incoming)
    assert {known["$svn"], known["x-ms-sgx-svn"]} == {2}
    assert (known["$tee"], known["$is-debuggable"], known["$product-id"]) == ("sgx", False, 7)
    assert known["$sgx-mrsigner"] == known["x-ms-sgx-mrsigner"]
    assert known["$sgx-mrenclave"] == known["x-ms-sgx-mrenclave"]
    assert known["x-bastide-tcb-status"] == "SWHardeningNeeded"
    assert [value for name, value in incoming if name == "x-bastide-advisory-ids"] == list(_TCB.advisory_ids)


def test_evidence_as_json_holds_claims_tcb_facts_and_bound_data() -> None:
    runtime = RuntimeData.parse(b'{"keys": [{"kty": "EC"}]}', is_json=True)
    binary = RuntimeData.parse(b"raw", is_json=False)
    evidence = json.loads(evidence_json(report_body(), _TCB, runtime=runtime, init_time=binary))
    assert evidence["x-ms-runtime"] == {"keys": [{"kty": "EC"}]}
    assert "x-ms-inittime" not in evidence
    assert evidence["x-ms-sgx-svn"] == report_body().isv_svn
    assert evidence["x-bastide-tcb-status"] == _TCB.status


def test_claims_of_real_quotes_are_the_expected_ones() -> None:
    folder = vectors("maa") / "quotes"
    expected = json.loads((folder / "expected-claims.json").read_text())
    assert len(expected) == 5
    for name, wanted in expected.items():
        quote, held = _sample(name)
        claims = _claims(report=Quote.parse(quote).report_body, runtime=RuntimeData.parse(held, is_json=False))
        assert {key: claims[key] for key in wanted if key.startswith("x-ms-")} == {
            key: value for key, value in wanted.items() if key.startswith("x-ms-")
        }, name


def test_claim_sets_of_recorded_tokens_come_out_the_same() -> None:
    recorded = attestations()
    assert len(recorded) >= 6
    for one in recorded:
        ours = {name: value for name, value in _replay(one).items() if not name.startswith("x-bastide-")}
        assert ours.keys() - _DIFFERS == one.claims.keys() - _DIFFERS
        assert {name: ours[name] for name in ours.keys() - _DIFFERS} == {
            name: one.claims[name] for name in ours.keys() - _DIFFERS
        }
        assert json.dumps(ours["x-ms-sgx-collateral"]).count(":") == len(one.claims["x-ms-sgx-collateral"]) == 7


def _replay(one: Attestation) -> dict[str, Json]:
    report = Quote.parse(one.quote).report_body
    issued = [(name, one.claims[name]) for name in DEPRECATED_POLICY_CLAIMS if name in one.claims]
    return sgx_claims(
        enclave_claims(report, _TCB, policy_hash=one.claims["x-ms-policy-hash"], issued=issued),
        frame=_FRAME,
        report_data=report.report_data,
        collateral=_HASHES,
        runtime=RuntimeData.parse(one.runtime_data, is_json=one.runtime_is_json),
    )


def _sample(name: str) -> tuple[bytes, bytes]:
    """Quote and enclave-held data of one sample; the 16-byte header of Open Enclave reports is cut off."""
    folder = vectors("maa") / "quotes"
    if name.endswith(".bin"):
        return (folder / name).read_bytes(), (folder / "recorded-sgx.runtime.bin").read_bytes()
    sample = json.loads((folder / name).read_text())
    quote = bytes.fromhex(sample["QuoteHex"])
    return quote[16:] if "-oe-" in name else quote, bytes.fromhex(sample["EnclaveHeldDataHex"])


def test_nonce_audience_profile_and_draft_stand_in_the_token_where_they_are_given() -> None:
    frame = replace(_FRAME, nonce="n", audience="us", profile="maa", draft=True)
    common = enclave_claims(report_body(), _TCB, policy_hash="h")
    claims = sgx_claims(common, frame=frame, report_data=bytes(64), collateral=_HASHES)
    told = {name: claims[name] for name in ("nonce", "aud", "x-bastide-profile", "x-bastide-draft")}
    assert told == {"nonce": "n", "aud": "us", "x-bastide-profile": "maa", "x-bastide-draft": True}
    assert {"nonce", "aud", "x-bastide-draft", "x-ms-policy-signer", "x-ms-inittime"}.isdisjoint(_claims())


def test_init_time_data_show_when_they_are_json_and_the_policys_signer_as_given() -> None:
    for raw, is_json, shown in ((b'{"a":1}', True, {"a": 1}), (b"bytes", False, None)):
        signed_by = {"kty": "RSA", "x5c": ["AA"]}
        common = enclave_claims(report_body(), _TCB, policy_hash="h", policy_signer=signed_by)
        data = RuntimeData.parse(raw, is_json=is_json)
        claims = sgx_claims(common, frame=_FRAME, report_data=bytes(64), collateral=_HASHES, init_time=data)
        assert claims.get("x-ms-inittime") == shown
        assert claims["x-ms-policy-signer"] == {"kty": "RSA", "x5c": ["AA"]}


def test_the_claims_of_an_enclave_go_with_whatever_report_data_it_has() -> None:
    other = replace(report_body(), report_data=bytes(64))
    common = enclave_claims(report_body(), _TCB, policy_hash="hash")
    claims = sgx_claims(common, frame=_FRAME, report_data=other.report_data, collateral=_HASHES)
    assert claims == _claims(report=other)
    assert claims["x-ms-sgx-report-data"] == "00" * 64
