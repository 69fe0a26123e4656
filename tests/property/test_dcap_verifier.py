"""What a Verifier remembers never shows: its verdicts equal those of ``verify``, in any order and at any instant."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.dcap import INTEL, STRICT, AppraisalPolicy, PreparedCollateral, TcbStatus, Verdict, Verifier, verify
from bastide.errors import MalformedError
from bastide.sgx.attributes import AttributeFlags
from bastide.sgx.quote import QuoteParts
from support.quotes import AT, ISSUED, TEE_TCB_SVN, World, good_world, sign_raw, td_world
from support.sgx_values import attributes

SECOND = timedelta(seconds=1)
END = ISSUED + timedelta(days=30)
INSTANTS = (AT, ISSUED - SECOND, ISSUED, END - SECOND, END, END + SECOND, AT + timedelta(days=9999))
POLICIES = (
    STRICT,
    INTEL,
    AppraisalPolicy(name="grace", accepted_statuses=frozenset(TcbStatus), platform_grace=END - AT),
)
WORLDS = (good_world(), td_world(), td_world(current=TEE_TCB_SVN))
QUOTES = tuple(world.quote.build() for world in WORLDS)
PREPARED = tuple(PreparedCollateral.of(world.collateral, world.root) for world in WORLDS)


def uncached(raw: bytes, which: int, **options: object) -> Verdict | str:
    try:
        return verify(raw, PREPARED[which], root=WORLDS[which].root, **options)  # type: ignore[arg-type]
    except MalformedError as error:
        return error.code


def cached(verifier: Verifier, raw: bytes, at: object) -> Verdict | str:
    try:
        return verifier.verify(raw, at)  # type: ignore[arg-type]
    except MalformedError as error:
        return error.code


def flipped(raw: bytes, at: int, bit: int) -> bytes:
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def resigned(world: World, raw: bytes) -> bytes:
    """The quote with the right signature of whatever header and body now say."""
    parts = QuoteParts.cut(raw)
    return raw.replace(parts.signature, sign_raw(world.attestation_key, parts.signed), 1)


@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(0, 2),
    policy=st.sampled_from(POLICIES),
    most=st.sampled_from((0, 1, 16)),
    steps=st.lists(
        st.tuples(
            st.sampled_from(INSTANTS), st.one_of(st.none(), st.tuples(st.integers(0, 1 << 13), st.integers(0, 7)))
        ),
        max_size=8,
    ),
)
def test_flipped_bits_in_any_order_and_at_any_instant(
    which: int, policy: AppraisalPolicy, most: int, steps: list[tuple[object, tuple[int, int] | None]]
) -> None:
    verifier = Verifier(PREPARED[which], root=WORLDS[which].root, policy=policy, max_qe_signatures=most)
    for at, flip in steps:
        raw = QUOTES[which] if flip is None else flipped(QUOTES[which], *flip)
        assert cached(verifier, raw, at) == uncached(raw, which, at=at, policy=policy)


@settings(max_examples=150, deadline=None)
@given(which=st.integers(0, 2), at=st.integers(0, 701), bit=st.integers(0, 7))
def test_signed_bits_flipped_before_signing(which: int, at: int, bit: int) -> None:
    world, good = WORLDS[which], QUOTES[which]
    verifier = Verifier(PREPARED[which], root=world.root)
    assert cached(verifier, good, AT) == uncached(good, which, at=AT)
    changed = flipped(good, at % len(QuoteParts.cut(good).signed), bit)
    with suppress(MalformedError):
        changed = resigned(world, changed)
    assert cached(verifier, changed, AT) == uncached(changed, which, at=AT)


CERTIFIED = (
    {},
    {"isv_svn": 1},
    {"isv_prod_id": 99},
    {"mr_signer": bytes(32)},
    {"attributes": attributes(AttributeFlags.DEBUG)},
    {"config_id": b"\x01" * 64},
)
"""Changes of the quoting enclave, which the PCK key then certifies."""


@settings(max_examples=60, deadline=None)
@given(which=st.integers(0, 2), changes=st.lists(st.sampled_from(CERTIFIED), min_size=1, max_size=5))
def test_quoting_enclaves_certified_in_any_order(which: int, changes: list[dict[str, object]]) -> None:
    world = WORLDS[which]
    verifier = Verifier(PREPARED[which], root=world.root)
    for change in changes:
        raw = replace(world, qe_report=replace(world.qe_report, **change)).quote.build()  # type: ignore[arg-type]
        assert cached(verifier, raw, AT) == uncached(raw, which, at=AT)
