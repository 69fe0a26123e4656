"""Whom the external metrics API believes."""

from datetime import UTC, datetime, timedelta

import pytest

from bastide.cluster.metrics.external.requestheader import RequestHeader, User
from bastide.errors import MalformedError, UntrustedError
from support.front_proxy import FrontProxy

NOW = datetime.now(UTC)
HPA = [
    (b"x-remote-user", b"system:serviceaccount:kube-system:horizontal-pod-autoscaler"),
    (b"x-remote-group", b"system:serviceaccounts"),
    (b"x-remote-group", b"system:authenticated"),
    (b"x-remote-uid", b"u-1"),
    (b"x-remote-extra-acme.com%2fproject", b"one"),
    (b"x-remote-extra-acme.com%2fproject", b"two"),
]


@pytest.fixture
def proxy(tmp_path):
    return FrontProxy(tmp_path)


def test_the_user_of_a_request_is_read_from_the_headers_that_the_cluster_names(proxy):
    user = RequestHeader.parse(proxy.config_map()).user(proxy.client()[0], HPA, NOW)
    assert user == User(
        name="system:serviceaccount:kube-system:horizontal-pod-autoscaler",
        uid="u-1",
        groups=("system:serviceaccounts", "system:authenticated"),
        extra=(("acme.com/project", ("one", "two")),),
    )


def test_headers_of_other_names_are_not_the_users(proxy):
    header = RequestHeader.parse(proxy.config_map(**{"requestheader-username-headers": '["X-Proxy-User"]'}))
    with pytest.raises(UntrustedError):
        header.user(proxy.client()[0], HPA, NOW)


def test_nobody_is_believed_without_a_certificate_or_before_the_cluster_says_whom(proxy):
    with pytest.raises(UntrustedError):
        RequestHeader.parse(proxy.config_map()).user("", HPA, NOW)
    with pytest.raises(UntrustedError):
        RequestHeader().user(proxy.client()[0], HPA, NOW)


def test_a_certificate_of_another_name_may_not_speak_for_users(proxy):
    header = RequestHeader.parse(proxy.config_map())
    with pytest.raises(UntrustedError):
        header.user(proxy.client("kubelet")[0], HPA, NOW)
    anybody = RequestHeader.parse(proxy.config_map(**{"requestheader-allowed-names": "[]"}))
    assert anybody.user(proxy.client("kubelet")[0], HPA, NOW).groups


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_certificate_that_is_not_valid_now_is_not_believed(proxy, hours):
    header = RequestHeader.parse(proxy.config_map())
    with pytest.raises(UntrustedError):
        header.user(proxy.client()[0], HPA, NOW + timedelta(hours=hours))


@pytest.mark.parametrize("headers", [[], [(b"x-remote-user", b"")], [(b"x-remote-group", b"system:masters")]])
def test_a_request_that_names_no_user_is_of_nobody(proxy, headers):
    with pytest.raises(UntrustedError):
        RequestHeader.parse(proxy.config_map()).user(proxy.client()[0], headers, NOW)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("requestheader-client-ca-file", "nonsense"),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-allowed-names", '{"a": 1}'),
        ("requestheader-allowed-names", "[1]"),
        ("requestheader-group-headers", '[""]'),
        ("requestheader-group-headers", "[" * 5000),
    ],
)
def test_what_the_cluster_says_wrongly_is_malformed(proxy, key, value):
    with pytest.raises(MalformedError) as caught:
        RequestHeader.parse(proxy.config_map(**{key: value}))
    assert caught.value.where == f"data.{key}"


def test_without_an_authority_no_certificate_counts(proxy):
    header = RequestHeader.parse(proxy.config_map(**{"requestheader-client-ca-file": ""}))
    with pytest.raises(UntrustedError):
        header.user(proxy.client()[0], HPA, NOW)


def test_an_empty_config_map_believes_nobody():
    assert RequestHeader.parse({}) == RequestHeader()


def test_what_is_read_of_headers_and_authorities_is_bounded(proxy):
    header = RequestHeader.parse(proxy.config_map())
    many = [(b"x-remote-group", b"g%d" % number) for number in range(2000)]
    many += [(b"x-remote-extra-k%d" % number, b"v") for number in range(2000)]
    user = header.user(proxy.client()[0], [*HPA[:1], *many], NOW)
    assert (len(user.groups), len(user.extra)) == (512, 512)
    with pytest.raises(MalformedError):
        RequestHeader.parse(proxy.config_map(**{"requestheader-client-ca-file": proxy.pem * 1000}))
