"""Whatever comes from elsewhere (support bundles, configuration of the quote provider) is read or refused."""

import gzip
import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from bastide.errors import MalformedError
from bastide.node.machine.around import read_facts
from bastide.node.machine.bundle import build_bundle, parse_bundle
from bastide.node.machine.capture import INDEX, build_index
from bastide.node.quoteprovider import QuoteProviderConfig
from support.nodes import captured, sgx_node

GOOD_INDEX = build_index(captured(sgx_node()))
GOOD_TAR = gzip.decompress(build_bundle(captured(sgx_node())))


def _read(raw):
    try:
        return parse_bundle(raw)
    except MalformedError:
        return None


@given(st.binary(max_size=600))
def test_any_bytes_are_a_bundle_or_refused(raw):
    _read(raw)
    _read(gzip.compress(raw))


@given(st.integers(0, len(GOOD_TAR) - 1), st.binary(min_size=1, max_size=4))
def test_a_bundle_with_changed_bytes_is_read_or_refused_and_its_facts_never_raise(place, change):
    taken = _read(gzip.compress(GOOD_TAR[:place] + change + GOOD_TAR[place + len(change) :]))
    if taken is not None:
        read_facts(taken)


@given(st.integers(0, len(GOOD_INDEX) - 1), st.sampled_from([b"0", b"-", b'"', b"[", b"{", b"null", b"1e99", b""]))
def test_an_index_with_changed_text_is_read_or_refused(place, change):
    index = GOOD_INDEX[:place] + change + GOOD_INDEX[place + 1 :]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(INDEX)
        member.size = len(index)
        archive.addfile(member, io.BytesIO(index))
    taken = _read(packed.getvalue())
    if taken is not None:
        read_facts(taken)


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":/,*\\ \npcs_url=htp@', max_size=200).map(str.encode))
def test_any_text_is_a_quote_provider_configuration_or_refused(raw):
    try:
        config = QuoteProviderConfig.parse(raw)
    except MalformedError:
        return
    assert QuoteProviderConfig.parse(config.build()) == config
