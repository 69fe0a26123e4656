"""A quote with any one bit flipped: refused where a signature or hash covers it, never a better verdict elsewhere."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.dcap import PreparedCollateral, Verdict, verify
from bastide.errors import MalformedError
from support.quotes import TEE_TCB_SVN, good_world, td_world

WORLD = good_world()
RAW = WORLD.quote.build()
PREPARED = PreparedCollateral.of(WORLD.collateral, WORLD.root)
GOOD = verify(RAW, PREPARED, WORLD.at, root=WORLD.root)

AUTH_LENGTH = range(432, 436)
QE_AUTH_LENGTH = range(1012, 1014)
QE_AUTH_END = 1014 + len(WORLD.qe_auth_data)
COVERED = [at for at in range(QE_AUTH_END) if at not in AUTH_LENGTH and at not in QE_AUTH_LENGTH]
"""Header, body, both signatures, attestation key, QE report and QE authentication data."""


def flipped(at: int, bit: int) -> bytes:
    return RAW[:at] + bytes([RAW[at] ^ (1 << bit)]) + RAW[at + 1 :]


def outcome(raw: bytes) -> Verdict | None:
    """The verdict; None for what is no quote."""
    try:
        return verify(raw, PREPARED, WORLD.at, root=WORLD.root)
    except MalformedError:
        return None


def test_unflipped_quote_is_acceptable() -> None:
    assert GOOD.acceptable


@settings(max_examples=150, deadline=None)
@given(at=st.sampled_from(COVERED), bit=st.integers(0, 7))
def test_bit_under_a_signature_or_hash_is_refused(at: int, bit: int) -> None:
    verdict = outcome(flipped(at, bit))
    assert verdict is None or not verdict.acceptable


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7))
def test_bit_anywhere_is_refused_or_changes_nothing(at: int, bit: int) -> None:
    verdict = outcome(flipped(at, bit))
    assert verdict is None or not verdict.acceptable or verdict == GOOD


@settings(max_examples=50, deadline=None)
@given(length=st.integers(0, len(RAW) - 1))
def test_cut_quotes_are_refused(length: int) -> None:
    verdict = outcome(RAW[:length])
    assert verdict is None or not verdict.acceptable


@settings(max_examples=25, deadline=None)
@given(tail=st.binary(max_size=200))
def test_bytes_after_the_quote_change_nothing(tail: bytes) -> None:
    assert outcome(RAW + tail) == GOOD


TD_WORLD = td_world(current=TEE_TCB_SVN)
TD_RAW = TD_WORLD.quote.build()
TD_PREPARED = PreparedCollateral.of(TD_WORLD.collateral, TD_WORLD.root)
TD_GOOD = verify(TD_RAW, TD_PREPARED, TD_WORLD.at, root=TD_WORLD.root)
TD_BODY_END = 54 + 648


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(TD_RAW) - 1), bit=st.integers(0, 7))
def test_bit_of_a_td_quote_is_refused_or_changes_nothing(at: int, bit: int) -> None:
    assert TD_GOOD.acceptable
    raw = TD_RAW[:at] + bytes([TD_RAW[at] ^ (1 << bit)]) + TD_RAW[at + 1 :]
    try:
        verdict = verify(raw, TD_PREPARED, TD_WORLD.at, root=TD_WORLD.root)
    except MalformedError:
        return
    assert not verdict.acceptable or (at >= TD_BODY_END and verdict == TD_GOOD)
