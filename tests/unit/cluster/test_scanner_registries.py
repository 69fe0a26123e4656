import pytest

from bastide.cluster.scanner.registries import Registries, RegistryRule, split_authority
from bastide.errors import ConfigError, PolicyError
from bastide.pods.images import ImageReference


def _find(image, public=(), private=(), realms=()):
    return Registries.parse(public, private, realms).find(ImageReference.parse(image))


def test_without_a_list_nothing_is_asked_and_the_message_names_the_option():
    with pytest.raises(ConfigError) as caught:
        Registries.parse([])
    assert caught.value.code == "scanner.registry.none"
    assert "--registry" in caught.value.hint


def test_what_is_not_listed_is_refused():
    with pytest.raises(PolicyError) as caught:
        _find("evil.example/app:1", ["good.example"])
    assert caught.value.code == "scanner.registry.unlisted"
    assert "--registry evil.example" in caught.value.hint


@pytest.mark.parametrize(
    ("entry", "image", "is_covered"),
    [
        ("good.example", "good.example/app", True),
        ("good.example", "good.example:443/app", True),
        ("good.example", "good.example:8443/app", False),
        ("good.example:8443", "good.example:8443/app", True),
        ("good.example/team", "good.example/team/app", True),
        ("good.example/team", "good.example/team", True),
        ("good.example/team", "good.example/team2/app", False),
        ("good.example", "evil.good.example/app", False),
        ("good.example", "GOOD.example/app", True),
        ("docker.io/library", "ubuntu:22.04", True),
        ("docker.io/library", "docker.io/me/app", False),
        ("*", "anything.example/app", True),
    ],
)
def test_entries_cover_hosts_ports_and_whole_path_parts(entry, image, is_covered):
    if is_covered:
        assert _find(image, [entry])
    else:
        with pytest.raises(PolicyError):
            _find(image, [entry])


def test_any_never_means_plain_http_or_the_own_network():
    origin = _find("anything.example/app", ["*"]).origin
    assert (origin.scheme, origin.private, origin.port) == ("https", False, 443)
    with pytest.raises(ConfigError):
        Registries.parse([], ["*"])
    with pytest.raises(ConfigError):
        Registries.parse(["http://*"])


def test_a_named_entry_decides_over_any():
    origin = _find("reg.local:5000/app", ["*"], ["http://reg.local:5000"]).origin
    assert (origin.scheme, origin.private) == ("http", True)


def test_plain_http_is_taken_only_where_listed_for_that_host():
    assert _find("reg.local/app", ["reg.local"]).origin.scheme == "https"
    origin = _find("reg.local/app", ["http://reg.local"]).origin
    assert (origin.scheme, origin.port, origin.private) == ("http", 80, False)


def test_docker_hub_is_found_where_it_is_and_has_its_realm():
    hub = _find("ubuntu:22.04", ["docker.io"])
    assert hub.origin.host == "registry-1.docker.io"
    assert hub.realms == {"auth.docker.io"}


def test_realms_are_listed_by_registry():
    found = _find("gitlab.example:5050/app", ["gitlab.example:5050"], realms=["gitlab.example=gitlab.example:443"])
    assert found.realms == {"gitlab.example"}
    assert not _find("other.example/app", ["*"], realms=["gitlab.example=auth.example"]).realms


@pytest.mark.parametrize(
    "text", ["", "ftp://host", "http://", "host:0", "host:70000", "ho st", "host/a?b", "user@host", "a//b", "é.example"]
)
def test_entries_that_are_none_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        RegistryRule.parse(text)
    assert caught.value.code == "scanner.registry.option"


def test_realm_options_that_are_none_are_refused():
    for text in ("host", "=", "a=", "a=b/c"):
        with pytest.raises(ConfigError):
            Registries.parse(["*"], realms=[text])


def test_authorities_are_split():
    assert split_authority("HOST:5000") == ("host", 5000)
    assert split_authority("[2001:DB8::1]:5000") == ("2001:db8::1", 5000)
    assert split_authority("2001:db8::1") == ("", None)
