"""Whatever registries, tenants and callers send: our own refusals, and nothing else."""

import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.cluster.scanner.addresses import why_closed
from bastide.cluster.scanner.credentials import PullSecret, matching
from bastide.cluster.scanner.manifest import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, parse_document, parse_platform
from bastide.cluster.scanner.registries import Registries, RegistryRule
from bastide.cluster.scanner.resolve import Question
from bastide.errors import ConfigError, MalformedError, PolicyError
from bastide.pods.images import ImageReference

few = settings(max_examples=100)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(f"sha256:{'a' * 64}"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["mediaType", "manifests", "layers", "config", "digest", "size", "platform", "subject", "auths"]
)
documents = st.recursive(
    json_values | st.sampled_from([OCI_INDEX, OCI_MANIFEST, DOCKER_LIST]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=6),
    max_leaves=20,
)
raw_documents = st.binary(max_size=200) | documents.map(lambda tree: json.dumps(tree).encode())


@few
@given(raw_documents, st.text(max_size=40))
def test_any_document_is_read_or_refused(raw, content_type):
    with suppress(MalformedError):
        parse_document(raw, content_type)
    with suppress(MalformedError):
        parse_platform(raw)


@few
@given(raw_documents, st.booleans(), st.sampled_from(["reg.example/a", "ubuntu", "localhost:5000/a/b"]))
def test_any_pull_secret_is_read_or_refused(raw, old_form, image):
    with suppress(MalformedError):
        matching([PullSecret.parse(raw, old_form=old_form)], ImageReference.parse(image))


@few
@given(raw_documents)
def test_any_question_is_read_or_refused(raw):
    with suppress(MalformedError):
        Question.parse(raw)


@few
@given(st.text(max_size=60), st.booleans())
def test_any_entry_of_the_list_is_read_or_refused(text, private):
    with suppress(ConfigError):
        rule = RegistryRule.parse(text, private=private)
        assert rule.private is private
        assert not (rule.host == "*" and (rule.plain or rule.private))


@few
@given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,2}", fullmatch=True), st.from_regex(r"[a-z]{1,5}", fullmatch=True))
def test_a_list_covers_its_own_entries_and_no_other_host(host, path):
    registries = Registries.parse([f"{host}/{path}"])
    assert registries.find(ImageReference.parse(f"{host}/{path}/app")).origin.host == host
    for other in (f"{host}.evil/{path}/app", f"evil.{host}/{path}/app", f"{host}/{path}x/app", f"{host}:1/{path}/app"):
        with suppress(PolicyError):
            registries.find(ImageReference.parse(other))
            raise AssertionError(other)


@few
@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_stays_closed_however_ipv6_carries_it(number):
    address = IPv4Address(number)
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        assert why_closed(IPv6Address(int(IPv6Address(prefix)) + number))
    assert why_closed(IPv6Address((0x2002 << 112) + (number << 80)))
    if not address.is_global:
        assert why_closed(address)
