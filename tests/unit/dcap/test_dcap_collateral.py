from dataclasses import fields, replace
from hashlib import sha256

import pytest

from bastide.dcap import Collateral, PreparedCollateral, collateral_hashes, verify
from bastide.dcap.collateral import MAX_PART_SIZE
from bastide.errors import MalformedError
from support.quotes import good_world, other_pki

PARTS = [part.name for part in fields(Collateral)]


def collateral(**parts: bytes) -> Collateral:
    return Collateral(**({name: name.encode() for name in PARTS} | parts))


@pytest.mark.parametrize("name", PARTS)
def test_refuses_parts_beyond_the_limit(name: str) -> None:
    assert collateral(**{name: bytes(MAX_PART_SIZE)})
    with pytest.raises(MalformedError) as caught:
        collateral(**{name: bytes(MAX_PART_SIZE + 1)})
    assert (caught.value.code, caught.value.where) == ("collateral.part.size", name)


def test_hashes_have_the_names_of_the_claim() -> None:
    hashes = collateral_hashes(collateral())
    assert hashes["tcbinfohash"] == sha256(b"tcb_info").hexdigest()
    assert hashes["qeidhash"] == sha256(b"qe_identity").hexdigest()
    assert hashes["tcbinfocertshash"] == hashes["qeidcertshash"] == sha256(b"tcb_signing_chain").hexdigest()
    assert hashes["tcbinfocrlhash"] == hashes["qeidcrlhash"] == sha256(b"root_ca_crl").hexdigest()
    assert len(hashes) == 6


def test_prepared_collateral_gives_the_same_verdict() -> None:
    world = good_world()
    raw = world.collateral
    prepared = PreparedCollateral.of(raw, world.root)
    verdict = verify(world.quote, prepared, world.at, root=world.root)
    assert verdict == verify(world.quote, raw, world.at, root=world.root)
    assert verdict.acceptable


def test_preparing_under_a_foreign_root_does_not_make_collateral_trusted() -> None:
    """The other way round as well: what was refused under one root is judged anew under another."""
    world, foreign = good_world(), other_pki().trust_anchor
    raw = world.collateral
    trusted = PreparedCollateral.of(raw, world.root)
    assert not verify(world.quote, trusted, world.at, root=foreign).acceptable
    assert verify(world.quote, PreparedCollateral.of(raw, foreign), world.at, root=world.root).acceptable


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("content", [b"", b"\x00", b"{}", b"[" * 5000, b"-----BEGIN CERTIFICATE-----", b"\xff" * 99])
def test_nonsense_in_any_part_is_refused_and_never_raised(part: str, content: bytes) -> None:
    world = good_world()
    verdict = verify(world.quote, replace(world.collateral, **{part: content}), world.at, root=world.root)
    assert not verdict.acceptable
    assert verdict.refusals


def test_all_parts_absent_is_refused() -> None:
    world = good_world()
    nothing = Collateral(**dict.fromkeys(PARTS, b""))
    verdict = verify(world.quote, nothing, world.at, root=world.root)
    assert (verdict.acceptable, verdict.tcb_evaluation_data_number) == (False, None)
