"""Whatever bytes come, the parsers of collateral answer with a value or a MalformedError."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.dcap import Collateral, verify
from bastide.dcap.bundle import read_bundle, write_bundle
from bastide.dcap.identity import EnclaveIdentity
from bastide.dcap.tcb import TcbInfo
from bastide.errors import MalformedError
from support.quotes import good_world, td_world

WORLD = good_world()
COLLATERAL = WORLD.collateral
QUOTE = WORLD.quote
BUNDLE = json.loads(write_bundle(COLLATERAL))
PARTS = sorted(("tcb_info", "qe_identity", "pck_crl", "root_ca_crl", "tcb_signing_chain"))
PARSERS: tuple[tuple[Callable[[bytes], object], str], ...] = (
    (TcbInfo.parse, "tcbInfo"),
    (EnclaveIdentity.parse, "enclaveIdentity"),
    (TcbInfo.parse, "tcbInfo of TDX"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BODIES = {
    "tcbInfo of TDX": json.loads(td_world().collateral.tcb_info)["tcbInfo"],
    "tcbInfo": json.loads(COLLATERAL.tcb_info)["tcbInfo"],
    "enclaveIdentity": json.loads(COLLATERAL.qe_identity)["enclaveIdentity"],
}


def swallow(parse: Callable[[bytes], object], raw: bytes) -> None:
    with suppress(MalformedError):
        parse(raw)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(raw: bytes) -> None:
    for parse, _ in PARSERS:
        swallow(parse, raw)


@settings(max_examples=100, deadline=None)
@given(document=JSON, signature=JSON)
def test_random_json_raises_nothing_else(document: object, signature: object) -> None:
    for parse, member in PARSERS:
        swallow(parse, json.dumps({member: document, "signature": signature}).encode())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_member_replaced_by_anything_raises_nothing_else(data: st.DataObject) -> None:
    parse, member = data.draw(st.sampled_from(PARSERS))
    body = json.loads(json.dumps(BODIES[member]))
    at = body
    while isinstance(at, dict | list):
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = data.draw(JSON)
            break
        at = at[key]
    swallow(parse, json.dumps({member.partition(" ")[0]: body, "signature": "ab" * 64}).encode())


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(sorted(BUNDLE)), value=JSON, raw=st.binary(max_size=100))
def test_bundles_of_anything_raise_nothing_else(name: str, value: object, raw: bytes) -> None:
    swallow(read_bundle, json.dumps(BUNDLE | {name: value}).encode())
    swallow(read_bundle, raw)


@settings(max_examples=150, deadline=None)
@given(part=st.sampled_from(PARTS), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_collateral_with_one_bit_flipped_is_refused_or_changes_nothing(part: str, at: int, bit: int) -> None:
    raw: bytes = getattr(COLLATERAL, part)
    at %= len(raw)
    changed: Collateral = replace(COLLATERAL, **{part: raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]})
    verdict = verify(QUOTE, changed, WORLD.at, root=WORLD.root)
    assert not verdict.acceptable or verdict == verify(QUOTE, COLLATERAL, WORLD.at, root=WORLD.root)


@settings(max_examples=100, deadline=None)
@given(part=st.sampled_from(PARTS), raw=st.binary(max_size=200))
def test_collateral_of_random_bytes_is_refused(part: str, raw: bytes) -> None:
    assert not verify(QUOTE, replace(COLLATERAL, **{part: raw}), WORLD.at, root=WORLD.root).acceptable
