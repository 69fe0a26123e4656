import json
from copy import deepcopy

import pytest

from bastide.dcap.levels import TcbStatus
from bastide.dcap.tcb import TcbInfo
from bastide.errors import MalformedError

COMPONENTS = [{"svn": svn} for svn in range(16)]
V3 = {
    "id": "SGX",
    "version": 3,
    "issueDate": "2025-06-19T10:56:11Z",
    "nextUpdate": "2025-07-19T10:56:11Z",
    "fmspc": "00A067110000",
    "pceId": "0001",
    "tcbType": 0,
    "tcbEvaluationDataNumber": 17,
    "tcbLevels": [
        {
            "tcb": {"sgxtcbcomponents": COMPONENTS, "pcesvn": 13},
            "tcbDate": "2024-03-13T00:00:00Z",
            "tcbStatus": "SWHardeningNeeded",
            "advisoryIDs": ["INTEL-SA-00615"],
        }
    ],
}
NAMES_V2 = [f"sgxtcbcomp{i:02}svn" for i in range(1, 17)]
MODULE = {"mrsigner": "5E" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
LEVEL = {"tcb": {"isvsvn": 5}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "OutOfDate"}
IDENTITY = MODULE | {
    "id": "TDX_03",
    "tcbLevels": [LEVEL, LEVEL | {"tcb": {"isvsvn": 7}, "tcbStatus": "UpToDate"}],
}


def v2() -> dict:
    body = deepcopy(V3) | {"version": 2}
    del body["id"]
    body["tcbLevels"][0]["tcb"] = dict(zip(NAMES_V2, range(16), strict=True)) | {"pcesvn": 13}
    return body


def parse(body: object, **more: object) -> TcbInfo:
    document = {"tcbInfo": body, "signature": "ab" * 64} | more
    return TcbInfo.parse(json.dumps(document).encode())


def code_of(body: object, **more: object) -> str:
    with pytest.raises(MalformedError) as caught:
        parse(body, **more)
    return caught.value.code


def without(body: dict, *path: object) -> dict:
    changed = deepcopy(body)
    at = changed
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return changed


def having(body: dict, value: object, *path: object) -> dict:
    changed = deepcopy(body)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize("body", [V3, v2()], ids=["v3", "v2"])
def test_reads_both_versions(body: dict) -> None:
    info = parse(body)
    assert (info.id, info.version, info.fmspc.hex()) == ("SGX", body["version"], "00a067110000")
    assert (info.pce_id, info.tcb_evaluation_data_number) == (b"\x00\x01", 17)
    (level,) = info.levels
    assert (level.components, level.pce_svn) == (tuple(range(16)), 13)
    assert (level.status, level.advisory_ids) == (TcbStatus.SW_HARDENING_NEEDED, ("INTEL-SA-00615",))
    assert (level.date.year, info.issue_date.day, info.next_update.month) == (2024, 19, 7)


def test_reads_levels_of_tdx_documents() -> None:
    level = V3["tcbLevels"][0]
    tcb = level["tcb"] | {"tdxtcbcomponents": COMPONENTS[::-1]}
    body = V3 | {"id": "TDX", "tdxModule": MODULE, "tcbLevels": [level | {"tcb": tcb}]}
    info = parse(body)
    assert (info.id, info.levels[0].tdx_components) == ("TDX", tuple(range(15, -1, -1)))
    assert info.tdx_module is not None
    assert (info.tdx_module.mr_signer, info.tdx_module.attributes) == (b"\x5e" * 48, bytes(8))
    assert info.tdx_module_identities == ()
    assert code_of(V3 | {"id": "TDX", "tdxModule": MODULE}) == "tcb.info.format"


def tdx_body(**more: object) -> dict:
    level = V3["tcbLevels"][0]
    tcb = level["tcb"] | {"tdxtcbcomponents": COMPONENTS}
    return V3 | {"id": "TDX", "tdxModule": MODULE, "tcbLevels": [level | {"tcb": tcb}]} | more


def test_reads_tdx_module_identities_by_their_major_version() -> None:
    info = parse(tdx_body(tdxModuleIdentities=[IDENTITY, IDENTITY | {"id": "tdx_1f"}]))
    assert [each.id for each in info.tdx_module_identities] == ["TDX_03", "tdx_1f"]
    identity = info.module_identity(3)
    assert identity is not None
    assert [level.isv_svn for level in identity.levels] == [7, 5]
    assert [level and level.isv_svn for level in map(identity.level_for, (8, 7, 6, 4))] == [7, 7, 5, None]
    assert info.module_identity(0x1F) is info.tdx_module_identities[1]
    assert (info.module_identity(0), info.module_identity(4)) == (None, None)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("tcb.info.invalid", {"tdxModuleIdentities": {}}),
        ("tcb.info.invalid", {"tdxModuleIdentities": []}),
        ("tcb.info.invalid", {"tdxModuleIdentities": [IDENTITY] * 257}),
        ("tcb.info.format", {"tdxModuleIdentities": [1]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"id": 3}]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"mrsigner": "00"}]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"tcbLevels": []}]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"tcbLevels": [LEVEL, LEVEL]}]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"tcbLevels": [LEVEL | {"tcb": {"isvsvn": 65536}}]}]}),
        ("tcb.info.format", {"tdxModuleIdentities": [IDENTITY | {"tcbLevels": [LEVEL | {"tcbStatus": "Fine"}]}]}),
        ("tcb.info.format", {"tdxModule": 1}),
        ("tcb.info.format", {"tdxModule": MODULE | {"attributes": "00"}}),
    ],
)
def test_refuses_tdx_modules_that_are_not_what_they_must_be(code: str, changes: dict) -> None:
    assert code_of(tdx_body(**changes)) == code


def test_refuses_tdx_documents_without_a_module_and_sgx_documents_with_one() -> None:
    assert code_of(without(tdx_body(), "tdxModule")) == "tcb.info.invalid"
    assert code_of(V3 | {"tdxModule": MODULE}) == "tcb.info.invalid"
    assert code_of(V3 | {"tdxModuleIdentities": [IDENTITY]}) == "tcb.info.invalid"
    assert parse(v2() | {"tdxModule": MODULE}).tdx_module is None


def test_tdx_components_count_from_the_third_on_when_the_module_has_a_version() -> None:
    info = parse(tdx_body())
    svns = bytes(range(16))
    assert info.level_for(range(16), 13, svns) is info.levels[0]
    versioned = bytes([0, 1]) + svns[2:]
    assert info.level_for(range(16), 13, versioned) is info.levels[0]
    assert info.level_for(range(16), 13, bytes([0, 0]) + svns[2:]) is None
    for i in range(2, 16):
        lower = bytes(svn - (place == i) for place, svn in enumerate(versioned))
        assert info.level_for(range(16), 13, lower) is None


def test_the_same_svns_with_other_tdx_components_are_another_level() -> None:
    level = tdx_body()["tcbLevels"][0]
    lower = level | {"tcb": level["tcb"] | {"tdxtcbcomponents": [{"svn": 0}] * 16}}
    info = parse(tdx_body(tcbLevels=[lower, level]))
    assert [each.tdx_components[15] for each in info.levels] == [15, 0]


def test_reads_documents_with_members_of_tomorrow() -> None:
    assert parse(V3 | {"more": {"of": "it"}}).levels == parse(V3).levels


ABSENT = ["version", "id", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber"]


@pytest.mark.parametrize("name", ABSENT)
def test_refuses_absent_members(name: str) -> None:
    assert code_of(without(V3, name)) == "tcb.info.format"


@pytest.mark.parametrize("name", ["tcb", "tcbDate", "tcbStatus"])
def test_refuses_absent_members_of_a_level(name: str) -> None:
    assert code_of(without(V3, "tcbLevels", 0, name)) == "tcb.info.format"


def test_refuses_documents_without_levels_or_signature() -> None:
    assert code_of(without(V3, "tcbLevels")) == "tcb.info.invalid"
    assert code_of(having(V3, [], "tcbLevels")) == "tcb.info.invalid"
    assert code_of(V3, signature=None) == "tcb.info.invalid"
    assert code_of(V3, signature="ab" * 63) == "tcb.info.invalid"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 1),
        ("version", 4),
        ("version", "3"),
        ("id", "QE"),
        ("issueDate", "2018-16-06T10:12:17Z"),
        ("nextUpdate", 1),
        ("fmspc", "00A0671100"),
        ("fmspc", "00A06711000g"),
        ("pceId", 0),
        ("tcbType", 1),
        ("tcbEvaluationDataNumber", -1),
        ("tcbEvaluationDataNumber", 2**32),
        ("tcbLevels", {}),
    ],
)
def test_refuses_wrong_values(name: str, value: object) -> None:
    assert code_of(having(V3, value, name)) == "tcb.info.invalid"


@pytest.mark.parametrize("count", [0, 15, 17])
def test_refuses_lists_of_other_than_16_components(count: int) -> None:
    components = (COMPONENTS * 2)[:count]
    body = having(V3, components, "tcbLevels", 0, "tcb", "sgxtcbcomponents")
    assert code_of(body) == "tcb.info.format"


@pytest.mark.parametrize("svn", [256, 257, -1, "1", True, None])
def test_refuses_component_svns_that_are_no_byte(svn: object) -> None:
    assert code_of(having(V3, svn, "tcbLevels", 0, "tcb", "sgxtcbcomponents", 3, "svn")) == "tcb.info.format"
    assert code_of(having(v2(), svn, "tcbLevels", 0, "tcb", "sgxtcbcomp04svn")) == "tcb.info.format"


@pytest.mark.parametrize("name", NAMES_V2)
def test_refuses_absent_components_of_version_2(name: str) -> None:
    assert code_of(without(v2(), "tcbLevels", 0, "tcb", name)) == "tcb.info.format"


@pytest.mark.parametrize("word", ["uptodate", "TDRelaunchAdvised", ""])
def test_refuses_unknown_statuses(word: object) -> None:
    assert code_of(having(V3, word, "tcbLevels", 0, "tcbStatus")) == "tcb.info.invalid"
    assert code_of(having(V3, 1, "tcbLevels", 0, "tcbStatus")) == "tcb.info.format"


def test_refuses_levels_that_repeat_svns_with_another_status() -> None:
    level = V3["tcbLevels"][0]
    assert code_of(V3 | {"tcbLevels": [level, level | {"tcbStatus": "UpToDate"}]}) == "tcb.info.invalid"


def test_refuses_lists_of_levels_without_bound() -> None:
    assert code_of(V3 | {"tcbLevels": V3["tcbLevels"] * 1025}) == "tcb.info.invalid"


def test_refuses_advisories_that_are_no_strings() -> None:
    assert code_of(having(V3, [1], "tcbLevels", 0, "advisoryIDs")) == "tcb.info.invalid"


def test_level_is_reached_by_equal_and_higher_svns_only() -> None:
    info = parse(V3)
    assert info.level_for(range(16), 13) is info.levels[0]
    assert info.level_for([255] * 16, 14) is info.levels[0]
    assert info.level_for(range(16), 12) is None
    for i in range(1, 16):
        lower = [svn - (place == i) for place, svn in enumerate(range(16))]
        assert info.level_for(lower, 13) is None


def test_fewer_component_svns_than_16_are_no_match_but_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        parse(V3).level_for(range(15), 13)
