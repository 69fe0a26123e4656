from bastide.policy import ATTESTATION_SERVICE, Claim, evaluate, explain, parse

_CLAIMS = (
    Claim(type="x-ms-sgx-mrsigner", value="ab12", issuer=ATTESTATION_SERVICE),
    Claim(type="x-ms-sgx-svn", value=2, issuer=ATTESTATION_SERVICE),
)


def _explained(rules: str, *, before: str = "") -> tuple[str, ...]:
    text = f'version=1.2;{before}\nauthorizationrules{{\n{rules}\n}};\nissuancerules{{=> issue(type="a", value=1);}};'
    return explain(evaluate(parse(text), _CLAIMS))


def test_explains_each_authorization_rule_with_the_value_that_it_saw() -> None:
    assert _explained(
        '[type=="x-ms-sgx-mrsigner", value=="cd34"] => permit();\n[type=="x-ms-sgx-svn", value>=5] => permit();'
    ) == (
        (
            'line 3: [type == "x-ms-sgx-mrsigner", value == "cd34"] => permit(); did not fire:'
            ' condition 1: no claim has value == "cd34"; seen "ab12"'
        ),
        (
            'line 4: [type == "x-ms-sgx-svn", value >= 5] => permit(); did not fire:'
            " condition 1: no claim has value >= 5; seen 2"
        ),
    )


def test_explains_a_deny_that_fired() -> None:
    lines = _explained('=> permit();\n[type=="x-ms-sgx-svn"] => deny();')
    assert lines[0] == "line 3: => permit(); fired: it has no conditions"
    assert lines[1].endswith("=> deny(); fired: every condition held")


def test_explains_a_rule_that_failed_wherever_it_stands() -> None:
    before = 'configurationrules{=> issueproperty(type="x", value=JsonToClaimValue("{}"));};'
    lines = _explained("=> permit();", before=before)
    assert lines[0].startswith("line 1: ")
    assert "failed: " in lines[0]
    assert len(lines) == 2


def test_explains_a_policy_without_authorization_rules() -> None:
    assert explain(evaluate(parse("version=1.0;issuancerules{};"), ())) == ("the policy has no authorization rules",)
