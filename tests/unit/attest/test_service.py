import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bastide.attest.service import Attested, AttestRequest, Refused, attest, conclude
from bastide.dcap import AppraisalPolicy, Collateral, PreparedCollateral, TcbStatus, verify
from bastide.errors import ConfigError
from bastide.pki.chain import INTEL_ROOT, TrustAnchor
from bastide.policy import DEFAULT_SGX_POLICY, PolicyDocument
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.report import ReportBody
from bastide.token.claims import CollateralHashes
from bastide.token.jose import RsaSigner
from bastide.token.jose import verify as verify_token
from support import sgx_values
from support.evidence import world
from support.recorded import attestations
from support.tokens import ISSUER, NOW, SIMULATION_ISSUER, keys_of, signer
from support.vectors import vectors

_DATA = b"\x01\x02\x03"
_JTI = "0123456789abcdef" * 4
_PERMIT = "version=1.0;authorizationrules{=>permit();};"


def _report(data: bytes = _DATA, flags: AttributeFlags = sgx_values.NO_FLAGS) -> ReportBody:
    bound = hashlib.sha256(data).digest() + bytes(32)
    return replace(sgx_values.report_body(), report_data=bound, attributes=sgx_values.attributes(flags))


def _request(report: ReportBody | None = None, data: bytes | None = _DATA, *, is_json: bool = False) -> AttestRequest:
    quote = world().quote(report or _report()).build()
    return AttestRequest(quote=quote, runtime_data=data, runtime_is_json=is_json)


def _attest(
    request: AttestRequest,
    *,
    policy: str = DEFAULT_SGX_POLICY,
    collateral: Collateral | PreparedCollateral | None = None,
    root: TrustAnchor | None = None,
    by: RsaSigner | None = None,
    now: datetime = NOW,
) -> Attested | Refused:
    return attest(
        request,
        collateral=collateral or world().collateral,
        now=now,
        root=root or world().root,
        policy=PolicyDocument.parse(policy),
        signer=by or signer(SIMULATION_ISSUER),
        jti=_JTI,
    )


def _attested(request: AttestRequest, policy: str = DEFAULT_SGX_POLICY) -> Attested:
    answer = _attest(request, policy=policy)
    assert isinstance(answer, Attested), answer
    return answer


def _refused(request: AttestRequest, policy: str = DEFAULT_SGX_POLICY, **changes: object) -> Refused:
    answer = _attest(request, policy=policy, **changes)  # type: ignore[arg-type]
    assert isinstance(answer, Refused), answer
    return answer


# yes


def test_good_evidence_gives_a_token_that_verifies() -> None:
    answer = _attested(_request())
    assert (
        verify_token(answer.token, keys_of(signer(SIMULATION_ISSUER)), NOW, issuer=SIMULATION_ISSUER) == answer.claims
    )


def test_token_names_evidence_policy_collateral_and_simulation() -> None:
    request = _request()
    claims = _attested(request).claims
    collateral = claims["x-ms-sgx-collateral"]
    assert isinstance(collateral, dict)
    assert claims["x-ms-sgx-mrenclave"] == _report().mr_enclave.hex()
    assert claims["x-ms-policy-hash"] == PolicyDocument.parse(DEFAULT_SGX_POLICY).hash
    assert collateral["quotehash"] == hashlib.sha256(request.quote).hexdigest()
    assert collateral["tcbinfohash"] == hashlib.sha256(world().collateral.tcb_info).hexdigest()
    assert claims["x-bastide-simulation"] is True
    assert claims["x-bastide-tcb-status"] == "UpToDate"
    assert (claims["jti"], claims["iss"]) == (_JTI, SIMULATION_ISSUER)
    assert claims["exp"] == int(NOW.timestamp()) + 8 * 3600
    assert claims["tee"] == "sgx"


def test_answer_holds_every_check_and_all_were_yes() -> None:
    names = [check.name for check in _attested(_request()).checks]
    assert names[-2:] == ["runtime-data.hash", "policy.authorization"]
    assert len(names) > 20
    assert all(check.ok for check in _attested(_request()).checks)


def test_runtime_data_are_optional() -> None:
    claims = _attested(_request(data=None)).claims
    assert "x-ms-sgx-ehd" not in claims
    assert "x-ms-runtime" not in claims


def test_json_runtime_data_become_an_object() -> None:
    data = b'{"keys": []}'
    assert _attested(_request(_report(data), data, is_json=True)).claims["x-ms-runtime"] == {"keys": []}


def test_prepared_collateral_gives_the_same_claims() -> None:
    request = _request()
    prepared = PreparedCollateral.of(world().collateral, world().root)
    answer = _attest(request, collateral=prepared)
    assert isinstance(answer, Attested)
    assert answer.claims == _attested(request).claims


def test_policy_sees_the_evidence_as_claims_of_the_service() -> None:
    policy = (
        'version=1.0;authorizationrules{[type=="$svn", value>=2, issuer=="AttestationService"]'
        f' && [type=="x-ms-sgx-mrsigner", value=="{_report().mr_signer.hex()}"]'
        ' && [type=="x-bastide-tcb-status", value=="UpToDate"] => permit();};'
    )
    assert _attested(_request(), policy).decision.authorized


# no


_JSON_POLICY = """version=1.2;
authorizationrules {
    e:[type=="x-bastide-evidence", issuer=="AttestationService"] =>
        add(type="use", value=JsonToClaimValue(JmesPath(e.value, "\\"x-ms-runtime\\".keys[0].use")));
    [type=="use", value=="enc"] => permit();
};
issuancerules {
    e:[type=="x-bastide-evidence"] => issue(type="status", value=JmesPath(e.value, "\\"x-bastide-tcb-status\\""));
};"""


def test_a_policy_of_version_1_2_looks_into_json_runtime_data() -> None:
    data = json.dumps({"keys": [{"kty": "RSA", "use": "enc"}], "padding": "x" * 50_000}).encode()
    attested = _attested(_request(_report(data), data, is_json=True), _JSON_POLICY)
    assert attested.claims["x-ms-policy"] == {"status": '"UpToDate"'}
    for other in (b'{"keys": [{"use": "sig"}]}', b"{}"):
        refused = _refused(_request(_report(other), other, is_json=True), _JSON_POLICY)
        assert refused.code == "PolicyEvaluationError"


@pytest.mark.parametrize(("version", "seen"), [("1.0", False), ("1.1", False), ("1.2", True)])
def test_only_policies_of_version_1_2_are_given_the_evidence_as_json(version: str, *, seen: bool) -> None:
    policy = f'version={version};authorizationrules{{[type=="x-bastide-evidence"]=>permit();}};'
    answer = _attest(_request(), policy=policy)
    assert isinstance(answer, Attested) is seen


@pytest.mark.parametrize("quote", [b"", b"\x03", bytes(5000)])
def test_refuses_what_is_no_quote(quote: bytes) -> None:
    answer = _refused(AttestRequest(quote=quote))
    assert (answer.code, answer.refused_by.name, answer.verdict) == ("InvalidParameter", "quote.format", None)
    assert answer.checks == (answer.refused_by,)


def test_refuses_a_quote_whose_verification_fails_and_names_the_check() -> None:
    request = _request()
    broken = replace(request, quote=request.quote[:100] + bytes([request.quote[100] ^ 1]) + request.quote[101:])
    answer = _refused(broken)
    assert answer.code == "InvalidParameter"
    assert answer.verdict is not None
    assert answer.refused_by == answer.verdict.refusals[0]
    assert answer.refused_by.name in answer.message
    assert answer.decision is None


def test_refuses_a_debug_enclave() -> None:
    answer = _refused(_request(_report(flags=AttributeFlags.DEBUG)))
    assert (answer.code, answer.refused_by.name) == ("InvalidParameter", "appraisal.debug")


def test_refuses_evidence_under_another_root() -> None:
    answer = _refused(_request(), root=INTEL_ROOT, by=signer(ISSUER))
    assert answer.refused_by.name.endswith("root.trusted")


def test_refuses_expired_collateral() -> None:
    answer = _refused(_request(), now=NOW + timedelta(days=4000))
    assert answer.code == "InvalidParameter"


def test_refuses_runtime_data_that_the_report_does_not_bind() -> None:
    answer = _refused(_request(data=_DATA + b"\n"))
    assert (answer.code, answer.refused_by.name) == ("InvalidParameter", "runtime-data.hash")
    assert hashlib.sha256(_DATA + b"\n").hexdigest() in answer.refused_by.expected
    assert answer.refused_by.seen == hashlib.sha256(_DATA).hexdigest()
    assert answer.refused_by.hint


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"a": 1, "a": 2}', b"x" * 70_000])
def test_refuses_runtime_data_that_are_no_json_object(data: bytes) -> None:
    answer = _refused(_request(_report(data), data, is_json=True))
    assert (answer.code, answer.refused_by.name) == ("InvalidParameter", "runtime-data.format")


def test_refuses_the_quote_before_the_runtime_data_and_reports_both() -> None:
    answer = _refused(_request(_report(flags=AttributeFlags.DEBUG), b"other"))
    assert answer.refused_by.name == "appraisal.debug"
    assert [check.name for check in answer.checks if not check.ok] == ["appraisal.debug", "runtime-data.hash"]


@pytest.mark.parametrize(
    ("rules", "message", "seen"),
    [
        ("=>permit();=>deny();", "A Deny claim was issued, authorization failed.", "deny() by authorization rule 2"),
        ("", "No permit claim was issued, authorization failed.", "no authorization rule"),
        ('[type=="$svn",value>=9]=>permit();', "No permit claim was issued, authorization failed.", "no authorization"),
    ],
)
def test_refuses_what_the_policy_refuses_and_tells_the_rule(rules: str, message: str, seen: str) -> None:
    answer = _refused(_request(), f"version=1.0;authorizationrules{{{rules}}};")
    assert (answer.code, answer.message) == ("PolicyEvaluationError", message)
    assert answer.refused_by.name == "policy.authorization"
    assert seen in answer.refused_by.seen
    assert answer.decision is not None
    assert not answer.decision.authorized
    assert answer.checks[-1] == answer.refused_by


def test_refuses_a_policy_that_runs_out_of_steps() -> None:
    rules = "c:[value==2] => add(claim=c);" * 100
    answer = _refused(_request(), f"version=1.0;authorizationrules{{=>permit();{rules}}};")
    assert (answer.code, answer.refused_by.name) == ("PolicyEvaluationError", "policy.evaluation")


def test_never_asks_the_policy_about_a_quote_that_failed() -> None:
    assert _refused(_request(_report(flags=AttributeFlags.DEBUG)), _PERMIT).decision is None


def test_refuses_a_verdict_that_says_no_without_a_reason() -> None:
    request = _request()
    verdict = replace(verify(request.quote, world().collateral, NOW, root=world().root), checks=())
    by = signer(SIMULATION_ISSUER)
    hashes = CollateralHashes(**dict.fromkeys(CollateralHashes.__slots__, "0" * 64))
    answer = conclude(
        request, _report(), verdict, hashes=hashes, policy=PolicyDocument.parse(_PERMIT), signer=by, now=NOW, jti=_JTI
    )
    assert isinstance(answer, Refused)
    assert answer.refused_by.name == "quote.verdict"


# simulation


def test_a_simulation_never_gets_a_token_of_an_issuer_that_hides_it() -> None:
    with pytest.raises(ConfigError) as caught:
        _attest(_request(), by=signer(ISSUER))
    assert caught.value.code == "attest.issuer.simulation"


def test_real_evidence_never_gets_a_token_of_a_simulation_issuer() -> None:
    real = replace(world().root, simulation=False)
    with pytest.raises(ConfigError) as caught:
        _attest(_request(), root=real)
    assert caught.value.code == "attest.issuer.real"


def test_tokens_of_real_evidence_have_no_simulation_mark() -> None:
    answer = _attest(_request(), root=replace(world().root, simulation=False), by=signer(ISSUER))
    assert isinstance(answer, Attested)
    assert "x-bastide-simulation" not in answer.claims


def test_conclude_trusts_the_verdict_about_simulation_not_the_caller() -> None:
    request = _request()
    verdict = verify(request.quote, world().collateral, NOW, root=world().root)
    hashes = CollateralHashes(**dict.fromkeys(CollateralHashes.__slots__, "0" * 64))
    with pytest.raises(ConfigError) as caught:
        conclude(
            request,
            _report(),
            verdict,
            hashes=hashes,
            policy=PolicyDocument.parse(_PERMIT),
            signer=signer(ISSUER),
            now=NOW,
            jti=_JTI,
        )
    assert caught.value.code == "attest.issuer.simulation"


# recorded


def test_recorded_requests_get_the_recorded_claims() -> None:
    """Differences allowed: issuer, times, id, policy signer, collateral hashes other than that of the quote, ours."""
    differs = {
        "iss",
        "iat",
        "nbf",
        "exp",
        "jti",
        "x-ms-policy-signer",
        "x-ms-sgx-collateral",
        "maa-attestationcollateral",
    }
    lenient = AppraisalPolicy(name="lenient", accepted_statuses=frozenset(TcbStatus), allow_debug=True)
    default = (vectors("maa") / "policies" / "default-sgx-v1.0-recorded-2021.txt").read_text()
    plain = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
    for one in attestations():
        answer = attest(
            AttestRequest(quote=one.quote, runtime_data=one.runtime_data, runtime_is_json=one.runtime_is_json),
            collateral=_real_collateral(),
            now=datetime(2022, 4, 27, tzinfo=UTC),
            root=INTEL_ROOT,
            policy=PolicyDocument.parse(default if "tee" in one.claims else plain),
            signer=signer(ISSUER),
            jti=_JTI,
            appraisal=lenient,
        )
        assert isinstance(answer, Attested), answer
        ours = {name: value for name, value in answer.claims.items() if not name.startswith("x-bastide-")}
        assert ours.keys() - differs == one.claims.keys() - differs
        assert all(ours[name] == one.claims[name] for name in ours.keys() - differs)
        collateral = ours["x-ms-sgx-collateral"]
        assert isinstance(collateral, dict)
        assert collateral.keys() == one.claims["x-ms-sgx-collateral"].keys()
        assert collateral["quotehash"] == one.claims["x-ms-sgx-collateral"]["quotehash"]


def _real_collateral() -> Collateral:
    folder = vectors("dcap") / "collateral" / "SGXv2-00906ED50000-e12-2022-04-26"
    return Collateral(
        tcb_info=(folder / "tcb_info.json").read_bytes(),
        qe_identity=(folder / "qe_identity.json").read_bytes(),
        pck_crl=(folder / "pck_crl.der").read_bytes(),
        root_ca_crl=(folder / "root_ca_crl.der").read_bytes(),
        tcb_signing_chain=(folder / "tcb_signing_chain.pem").read_bytes(),
    )


def test_a_quote_of_a_trust_domain_is_refused_like_any_other_that_is_no_enclaves() -> None:
    quote = sgx_values.later_quote(4, sgx_values.td_report())
    answer = _refused(AttestRequest(quote=quote.build()))
    assert (answer.code, answer.refused_by.name, answer.verdict) == ("InvalidParameter", "quote.format", None)
