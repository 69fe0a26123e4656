import pytest

from bastide.errors import MalformedError
from bastide.sgx.quote import Quote, QuoteParts
from support.quotes import TEE_TCB_SVN, World, good_world, td_world

WORLDS = [good_world(), td_world(), td_world(current=TEE_TCB_SVN)]


@pytest.mark.parametrize("world", WORLDS, ids=["v3", "v4", "v5"])
@pytest.mark.parametrize("trailing", [b"", bytes(7)])
def test_parts_are_those_of_the_parsed_quote(world: World, trailing: bytes) -> None:
    raw = world.quote.build() + trailing
    parts, quote = QuoteParts.cut(raw), Quote.parse(raw)
    assert parts.header == quote.header.build()
    assert parts.body == quote.body.build()
    assert parts.signed == quote.signed_bytes
    assert parts.qe_report == quote.qe_report.build()
    assert (parts.signature, parts.attestation_key) == (quote.signature, quote.attestation_key)
    assert (parts.qe_report_signature, parts.qe_auth_data) == (quote.qe_report_signature, quote.qe_auth_data)
    assert (parts.certification_type, parts.certification_data) == (5, quote.certification.data)
    assert parts.trailing == quote.trailing == trailing


@pytest.mark.parametrize("world", WORLDS, ids=["v3", "v4", "v5"])
def test_what_the_attestation_key_signs_is_the_start_of_the_quote(world: World) -> None:
    raw = world.quote.build()
    assert raw.startswith(QuoteParts.cut(raw).signed)


@pytest.mark.parametrize("world", WORLDS, ids=["v3", "v4", "v5"])
def test_a_quote_cut_short_anywhere_is_refused(world: World) -> None:
    raw = world.quote.build()
    for length in range(0, len(raw), 13):
        with pytest.raises(MalformedError):
            QuoteParts.cut(raw[:length])
