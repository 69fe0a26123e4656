import json
from copy import deepcopy
from dataclasses import replace

import pytest

from bastide.dcap.identity import EnclaveIdentity
from bastide.dcap.levels import TcbStatus
from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from support.quotes import good_world, qe_report_body
from support.sgx_values import attributes

BODY = good_world().qe_identity.as_json() | {
    "tcbLevels": [
        {"tcb": {"isvsvn": 8}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"},
        {"tcb": {"isvsvn": 6}, "tcbDate": "2021-11-10T00:00:00Z", "tcbStatus": "OutOfDate", "advisoryIDs": ["A"]},
    ]
}


def parse(body: object, **more: object) -> EnclaveIdentity:
    return EnclaveIdentity.parse(json.dumps({"enclaveIdentity": body, "signature": "ab" * 64} | more).encode())


def code_of(body: object, **more: object) -> str:
    with pytest.raises(MalformedError) as caught:
        parse(body, **more)
    return caught.value.code


def test_reads_version_2() -> None:
    identity = parse(BODY)
    assert (identity.id, identity.isv_prod_id, identity.tcb_evaluation_data_number) == ("QE", 1, 17)
    assert [level.isv_svn for level in identity.levels] == [8, 6]
    assert identity.levels[1].advisory_ids == ("A",)


@pytest.mark.parametrize("name", BODY)
def test_refuses_absent_members(name: str) -> None:
    assert code_of({key: value for key, value in BODY.items() if key != name}) == "qe.identity.invalid"


@pytest.mark.parametrize("name", ["tcb", "tcbDate", "tcbStatus"])
def test_refuses_absent_members_of_a_level(name: str) -> None:
    body = deepcopy(BODY)
    del body["tcbLevels"][0][name]
    assert code_of(body) == "qe.identity.format"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "PCE"),
        ("version", "2"),
        ("issueDate", "today"),
        ("miscselect", "0000"),
        ("attributes", "11"),
        ("attributesMask", 1),
        ("mrsigner", "8C"),
        ("isvprodid", -1),
        ("tcbLevels", []),
        ("tcbLevels", [{"tcb": {"isvsvn": "1"}, "tcbDate": "2021-11-10T00:00:00Z", "tcbStatus": "OutOfDate"}]),
    ],
)
def test_refuses_wrong_values(name: str, value: object) -> None:
    assert code_of(BODY | {name: value}) == "qe.identity.invalid"


@pytest.mark.parametrize("word", ["SWHardeningNeeded", "ConfigurationNeeded", "TDRelaunchAdvised", "", 1])
def test_refuses_statuses_that_no_enclave_has(word: object) -> None:
    assert code_of(BODY | {"tcbLevels": [BODY["tcbLevels"][0] | {"tcbStatus": word}]}) == "qe.identity.invalid"


def test_refuses_levels_that_repeat_an_svn() -> None:
    level = BODY["tcbLevels"][0]
    assert code_of(BODY | {"tcbLevels": [level, level | {"tcbStatus": "Revoked"}]}) == "qe.identity.invalid"


def test_of_two_levels_of_one_svn_the_later_counts_as_in_intels_library() -> None:
    level = BODY["tcbLevels"][0]
    later = level | {"tcbStatus": "Revoked", "tcbDate": "2099-01-01T00:00:00Z"}
    for levels in ([level, later], [later, level]):
        reached = parse(BODY | {"tcbLevels": levels}).level_for(8)
        assert reached is not None
        assert reached.status is TcbStatus.REVOKED


@pytest.mark.parametrize("version", [0, 1, 3])
def test_refuses_other_versions_by_a_code_of_their_own(version: int) -> None:
    assert code_of(BODY | {"version": version}) == "qe.identity.version"


def test_refuses_documents_without_body_or_signature() -> None:
    assert code_of(None) == "qe.identity.format"
    assert code_of(BODY | {"tcbLevels": [1]}) == "qe.identity.format"
    assert code_of(BODY, signature=None) == "qe.identity.format"
    assert code_of(BODY, signature="") == "qe.identity.invalid"


def test_its_own_quoting_enclave_matches() -> None:
    assert parse(BODY).mismatch(qe_report_body()) is None


def test_bits_outside_the_masks_do_not_matter() -> None:
    flags = AttributeFlags.PROVISIONKEY | AttributeFlags.MODE64BIT
    report = replace(qe_report_body(), attributes=attributes(flags, xfrm=0xE7))
    assert parse(BODY).mismatch(report) is None
    identity = parse(BODY | {"miscselectMask": "FEFFFFFF"})
    assert identity.mismatch(replace(report, misc_select=1)) is None
    assert identity.mismatch(replace(report, misc_select=256)) is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("MISCSELECT", {"misc_select": 1}),
        ("ATTRIBUTES", {"attributes": attributes()}),
        ("ATTRIBUTES", {"attributes": attributes(AttributeFlags.PROVISIONKEY | AttributeFlags.DEBUG)}),
        ("MRSIGNER", {"mr_signer": bytes(32)}),
        ("ISVPRODID", {"isv_prod_id": 2}),
    ],
)
def test_names_the_field_in_which_a_report_differs(field: str, value: dict) -> None:
    mismatch = parse(BODY).mismatch(replace(qe_report_body(), **value))
    assert mismatch is not None
    assert mismatch[0] == field


@pytest.mark.parametrize(("isv_svn", "status"), [(9, "UpToDate"), (8, "UpToDate"), (7, "OutOfDate"), (5, None)])
def test_level_is_the_highest_that_the_svn_reaches(isv_svn: int, status: str | None) -> None:
    turned = BODY | {"tcbLevels": BODY["tcbLevels"][::-1]}
    assert parse(turned).levels == parse(BODY).levels
    level = parse(BODY).level_for(isv_svn)
    assert (level and level.status) == (status and TcbStatus(status))
