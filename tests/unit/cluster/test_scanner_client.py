import base64
import json
import ssl
import time

import pytest

from bastide.cluster.scanner.client import MOST_REDIRECTS
from bastide.cluster.scanner.credentials import Credentials
from bastide.cluster.scanner.http import Wire
from bastide.cluster.scanner.manifest import Descriptor, Manifest
from bastide.cluster.scanner.registries import Registries
from bastide.errors import ConflictError, MalformedError, PolicyError, UnavailableError
from support.images import Member, digest, layout, tar
from support.registry import REPOSITORY, fake_registry, loopback, repository, tls_pair

IMAGE = layout([tar(Member("etc/hello", b"hello"))])
ALICE = Credentials(username="alice", password="secret-a")
BOB = Credentials(username="bob", password="secret-b")


@pytest.fixture
def registry():
    with fake_registry() as served:
        served.put(IMAGE)
        yield served


def _layer(registry):
    document = repository(registry).document(IMAGE.manifest_digest)[1]
    assert isinstance(document, Manifest)
    return document.layers[0]


def _read(registry, descriptor, **options):
    return b"".join(repository(registry, **options).blob(descriptor))


def _refusal(family, work):
    with pytest.raises(family) as caught:
        work()
    return caught.value


def test_a_tag_means_the_digest_of_the_bytes_that_are_served(registry):
    assert repository(registry).resolve("1") == IMAGE.manifest_digest


def test_a_registry_that_says_another_digest_than_it_serves_is_refused(registry):
    def lie(asked, exchange):
        exchange.reply(200, IMAGE.blobs[IMAGE.manifest_digest], Docker_Content_Digest=f"sha256:{'0' * 64}")
        return True

    registry.answerer = lie
    assert _refusal(MalformedError, lambda: repository(registry).resolve("1")).code == "scanner.digest.header"


def test_a_manifest_that_is_not_its_digest_is_refused(registry):
    wrong = f"sha256:{'1' * 64}"
    registry.documents[wrong] = registry.documents["1"]
    error = _refusal(MalformedError, lambda: repository(registry).document(wrong))
    assert error.code == "scanner.digest.mismatch"


def test_a_blob_is_what_its_digest_says(registry):
    layer = _layer(registry)
    assert digest(_read(registry, layer)) == layer.digest
    registry.blobs[layer.digest] = b"x" * layer.size
    assert _refusal(MalformedError, lambda: _read(registry, layer)).code == "scanner.digest.mismatch"


def test_a_blob_that_is_shorter_or_longer_than_was_said_is_refused(registry):
    layer = _layer(registry)
    content = registry.blobs[layer.digest]
    registry.blobs[layer.digest] = content[:-1]
    assert _refusal(MalformedError, lambda: _read(registry, layer)).code == "scanner.digest.mismatch"
    registry.blobs[layer.digest] = content + b"x"
    assert _refusal(MalformedError, lambda: _read(registry, layer)).code == "scanner.http.size"


def test_an_endless_body_is_left_off_where_it_passes_its_size(registry):
    layer = _layer(registry)
    sent = []

    def endless(asked, exchange):
        if "blobs" not in asked.path:
            return False
        exchange.head(200, Connection="close")
        while not exchange.stop.is_set():
            exchange.write(b"x" * 65536)
            sent.append(65536)
        return True

    registry.answerer = endless
    assert _refusal(MalformedError, lambda: _read(registry, layer)).code == "scanner.http.size"
    assert sum(sent) < 64 << 20


@pytest.mark.parametrize("is_chunked", [True, False])
def test_an_answer_without_a_length_is_read_to_its_end(registry, is_chunked):
    def answer(asked, exchange):
        if "blobs" not in asked.path:
            return False
        content = registry.blobs[asked.path.rpartition("/")[2]]
        exchange.head(200, **({"Transfer_Encoding": "chunked"} if is_chunked else {"Connection": "close"}))
        for start in range(0, len(content), 100):
            piece = content[start : start + 100]
            exchange.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            exchange.stop.wait(0.02)
        if is_chunked:
            exchange.write(b"0\r\n\r\n")
        return True

    registry.answerer = answer
    layer = _layer(registry)
    assert len(_read(registry, layer)) == layer.size


def test_a_body_that_ends_early_is_a_lost_connection_and_no_lie(registry):
    layer = _layer(registry)

    def cut(asked, exchange):
        if "blobs" not in asked.path:
            return False
        exchange.reply(200, registry.blobs[layer.digest][:-1], Content_Length=str(layer.size))
        return True

    registry.answerer = cut
    assert _refusal(UnavailableError, lambda: _read(registry, layer)).code == "scanner.http.unreachable"


def test_a_body_that_drips_ends_at_the_deadline(registry):
    layer = _layer(registry)

    def drip(asked, exchange):
        if "blobs" not in asked.path:
            return False
        exchange.head(200, Content_Length=str(layer.size))
        exchange.drip(registry.blobs[layer.digest], every=0.2)
        return True

    registry.answerer = drip
    begun = time.monotonic()
    error = _refusal(UnavailableError, lambda: _read(registry, layer, seconds=0.5))
    assert error.code == "scanner.http.slow"
    assert time.monotonic() - begun < 0.2 * layer.size / 2


def test_a_head_that_drips_ends_at_the_deadline(registry):
    def drip(asked, exchange):
        exchange.drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000, every=0.05)
        return True

    registry.answerer = drip
    assert (
        _refusal(UnavailableError, lambda: repository(registry, seconds=0.5).resolve("1")).code == "scanner.http.slow"
    )


def test_a_connection_that_says_nothing_counts_as_dead(registry):
    registry.answerer = lambda asked, exchange: exchange.stop.wait(5) or True
    wire = Wire(ssl.create_default_context(), idle=0.2)
    error = _refusal(UnavailableError, lambda: repository(registry, wire=wire).resolve("1"))
    assert error.code == "scanner.http.slow"


def test_a_manifest_of_more_than_four_mebibytes_is_refused(registry):
    registry.documents["1"] = (registry.documents["1"][0], b" " * (5 << 20))
    assert _refusal(MalformedError, lambda: repository(registry).resolve("1")).code == "scanner.http.size"


def test_a_compressed_answer_is_refused(registry):
    registry.answerer = lambda asked, exchange: exchange.reply(200, b"x", Content_Encoding="gzip") or True
    assert _refusal(MalformedError, lambda: repository(registry).resolve("1")).code == "scanner.http.encoding"


@pytest.mark.parametrize(
    ("status", "family", "code"),
    [
        (404, ConflictError, "scanner.registry.missing"),
        (403, ConflictError, "scanner.registry.unauthorised"),
        (400, ConflictError, "scanner.registry.refused"),
        (204, ConflictError, "scanner.registry.refused"),
        (429, UnavailableError, "scanner.registry.busy"),
        (500, UnavailableError, "scanner.registry.busy"),
        (503, UnavailableError, "scanner.registry.busy"),
    ],
)
def test_statuses_are_told_apart_by_whether_later_may_help(registry, status, family, code):
    registry.answerer = lambda asked, exchange: exchange.reply(status) or True
    assert _refusal(family, lambda: repository(registry).resolve("1")).code == code


def test_what_is_no_http_is_no_answer(registry):
    registry.answerer = lambda asked, exchange: exchange.write(b"SSH-2.0-OpenSSH\r\n") or True
    assert _refusal(UnavailableError, lambda: repository(registry).resolve("1")).code == "scanner.http.unreachable"


# Where connections go


def test_the_connection_goes_to_the_address_that_was_checked(registry):
    """DNS rebinding: the name is asked once per connection; what it would say next time does not matter."""
    answers = iter([["127.0.0.1"]])
    wire = Wire(ssl.create_default_context(), ask=lambda host, port: next(answers))
    host = f"reg.test:{registry.port}"
    client = repository(registry, wire=wire, registries=Registries.parse([], [f"http://{host}"]), host=host)
    assert client.resolve("1") == IMAGE.manifest_digest  # a second question would have raised StopIteration
    assert registry.asked[0].headers["Host"] == host


def test_a_registry_in_the_own_network_is_not_asked_unless_listed_as_such(registry):
    registries = Registries.parse([f"http://{registry.host}"])
    error = _refusal(PolicyError, lambda: repository(registry, registries=registries).resolve("1"))
    assert error.code == "scanner.address.closed"
    assert not registry.asked


def test_tls_is_checked_by_name_though_the_connection_goes_to_an_address(tmp_path):
    server, trust = tls_pair(tmp_path, "reg.test")
    with fake_registry(server) as registry:
        registry.put(IMAGE)
        for name, is_right in (("reg.test", True), ("other.test", False)):
            host = f"{name}:{registry.port}"
            client = repository(
                registry, wire=Wire(trust, ask=loopback), registries=Registries.parse([], [host]), host=host
            )
            if is_right:
                assert client.resolve("1") == IMAGE.manifest_digest
            else:
                error = _refusal(UnavailableError, lambda client=client: client.resolve("1"))
                assert "--registry-ca-cert" in error.hint


# Who we are


def _wants_bearer(registry, realm, *, good=("Bearer good",), scope="repository:other:push"):
    def answer(asked, exchange):
        if asked.path == "/token":
            who = asked.authorization.removeprefix("Basic ")
            token = "good" if who == base64.b64encode(b"alice:secret-a").decode() else "poor"
            exchange.reply(200, json.dumps({"token": token, "expires_in": 300}).encode())
        elif asked.path.startswith("/v2/") and asked.authorization not in good:
            challenge = f'Bearer realm="{realm}",service="reg",scope="{scope}"'
            exchange.reply(401, b"", WWW_Authenticate=challenge)
        else:
            return False
        return True

    return answer


def _token_requests(registry):
    return [asked for asked in registry.asked if asked.path == "/token"]


def test_a_token_is_fetched_for_pulling_this_repository_and_no_more(registry):
    registry.answerer = _wants_bearer(registry, f"http://{registry.host}/token")
    assert repository(registry, credentials=[ALICE]).resolve("1") == IMAGE.manifest_digest
    (request,) = _token_requests(registry)
    assert request.query == {"scope": [f"repository:{REPOSITORY}:pull"], "service": ["reg"]}


def test_a_token_is_kept_while_it_lives(registry):
    registry.answerer = _wants_bearer(registry, f"http://{registry.host}/token")
    client = repository(registry, credentials=[ALICE])
    client.resolve("1")
    client.document(IMAGE.manifest_digest)
    assert len(_token_requests(registry)) == 1


def test_credentials_are_tried_one_after_the_other(registry):
    registry.answerer = _wants_bearer(registry, f"http://{registry.host}/token")
    assert repository(registry, credentials=[BOB, ALICE]).resolve("1") == IMAGE.manifest_digest
    error = _refusal(ConflictError, lambda: repository(registry, credentials=[BOB]).resolve("1"))
    assert error.code == "scanner.registry.unauthorised"
    error = _refusal(ConflictError, lambda: repository(registry).resolve("1"))
    assert "pull secret" in error.hint


def test_basic_authentication_is_answered_to_the_registry_itself(registry):
    def answer(asked, exchange):
        if asked.authorization == ALICE.basic:
            return False
        exchange.reply(401 if not asked.authorization else 403, b"", WWW_Authenticate='Basic realm="reg"')
        return True

    registry.answerer = answer
    assert repository(registry, credentials=[BOB, ALICE]).resolve("1") == IMAGE.manifest_digest
    assert _refusal(ConflictError, lambda: repository(registry).resolve("1")).code == "scanner.registry.unauthorised"


def test_credentials_are_not_sent_before_anybody_asks(registry):
    repository(registry, credentials=[ALICE]).resolve("1")
    assert [asked.authorization for asked in registry.asked] == [""]


def test_a_realm_elsewhere_gets_no_credentials_unless_listed(registry, tmp_path):
    server, trust = tls_pair(tmp_path, "auth.test")
    with fake_registry(server) as thief:
        realm = f"https://auth.test:{thief.port}/token"
        thief.answerer = registry.answerer = _wants_bearer(registry, realm)
        wire = Wire(trust, ask=loopback)
        for credentials in ([ALICE], []):
            client = repository(registry, wire=wire, credentials=credentials)
            error = _refusal(PolicyError, lambda client=client: client.resolve("1"))
            assert error.code == "scanner.registry.realm"
            assert f"--token-realm {registry.host}=auth.test:{thief.port}" in error.hint
        assert not thief.asked
        listed = Registries.parse([], [f"http://{registry.host}"], [f"127.0.0.1=auth.test:{thief.port}"])
        client = repository(registry, wire=wire, credentials=[ALICE], registries=listed)
        assert client.resolve("1") == IMAGE.manifest_digest
        assert len(_token_requests(thief)) == 1


@pytest.mark.parametrize("realm", ["", "nonsense", "file:///etc/passwd", "http://[", "https://u:p@127.0.0.1/"])
def test_a_realm_that_is_no_url_is_refused(registry, realm):
    registry.answerer = _wants_bearer(registry, realm)
    error = _refusal(MalformedError, lambda: repository(registry, credentials=[ALICE]).resolve("1"))
    assert error.code == "scanner.registry.challenge"


def test_a_listed_realm_over_plain_http_is_refused(registry):
    with fake_registry() as thief:
        thief.answerer = registry.answerer = _wants_bearer(registry, f"http://auth.test:{thief.port}/token")
        listed = Registries.parse([], [f"http://{registry.host}"], [f"127.0.0.1=auth.test:{thief.port}"])
        wire = Wire(ssl.create_default_context(), ask=loopback)
        client = repository(registry, credentials=[ALICE], registries=listed, wire=wire)
        error = _refusal(PolicyError, lambda: client.resolve("1"))
        assert (error.code, thief.asked) == ("scanner.registry.realm", [])
        assert "https" in error.message


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token":""}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}'])
def test_a_token_that_is_none_is_refused(registry, body):
    def answer(asked, exchange):
        if asked.path == "/token":
            exchange.reply(200, body)
            return True
        return _wants_bearer(registry, f"http://{registry.host}/token")(asked, exchange)

    registry.answerer = answer
    assert _refusal(MalformedError, lambda: repository(registry).resolve("1")).code == "scanner.registry.token"


# Redirects


def _redirects(location, *, wants=""):
    def answer(asked, exchange):
        if wants and asked.authorization != wants:
            exchange.reply(401, b"", WWW_Authenticate='Basic realm="reg"')
        else:
            exchange.reply(307, b"", Location=location)
        return True

    return answer


@pytest.fixture
def storage(tmp_path):
    server, trust = tls_pair(tmp_path, "cdn.test")
    with fake_registry(server) as served:
        served.put(IMAGE)
        yield served, Wire(trust, ask=lambda host, port: ["127.0.0.1"])


def test_a_redirect_is_followed_without_credentials(registry, storage):
    cdn, wire = storage
    location = f"https://cdn.test:{cdn.port}/v2/{REPOSITORY}/manifests/1?signature=abc"
    registry.answerer = _redirects(location, wants=ALICE.basic)
    registries = registry.registries(f"cdn.test:{cdn.port}")
    client = repository(registry, credentials=[ALICE], wire=wire, registries=registries)
    assert client.resolve("1") == IMAGE.manifest_digest
    assert registry.asked[-1].authorization == ALICE.basic
    assert [(asked.authorization, asked.query) for asked in cdn.asked] == [("", {"signature": ["abc"]})]


def test_a_redirect_into_the_own_network_is_refused_unless_listed(registry, storage):
    cdn, wire = storage
    registry.answerer = _redirects(f"https://cdn.test:{cdn.port}/v2/{REPOSITORY}/manifests/1")
    error = _refusal(PolicyError, lambda: repository(registry, wire=wire).resolve("1"))
    assert error.code == "scanner.address.closed"
    assert not cdn.asked


@pytest.mark.parametrize("is_private", [True, False])
def test_only_a_private_registry_leads_to_a_private_host_that_is_listed(registry, is_private):
    """Else every registry of the world could make the scanner ask the hosts that are listed as private."""
    registries = Registries.parse(*((["*"], ["cdn.test"]) if not is_private else ([], ["cdn.test", "front.test"])))
    client = repository(registry, registries=registries, host="front.test")
    question = client._redirect(client._question("/v2/", "*/*"), "https://cdn.test/x", "*/*")
    assert question.origin.private is is_private


@pytest.mark.parametrize(
    "location",
    ["http://cdn.test/x", "", "ftp://cdn.test/x", "https://u:p@cdn.test/x", "https:///x", "https://[/", "//cdn.test/x"],
)
def test_redirects_to_what_is_no_https_url_are_refused(registry, location):
    registry.answerer = _redirects(location or "gopher:")
    error = _refusal(PolicyError, lambda: repository(registry).resolve("1"))
    assert error.code == "scanner.registry.redirect"


def test_redirects_are_followed_three_times(registry):
    registry.answerer = _redirects(f"http://{registry.host}/again")
    error = _refusal(PolicyError, lambda: repository(registry).resolve("1"))
    assert error.code == "scanner.registry.redirect"
    assert len(registry.asked) == 1 + MOST_REDIRECTS


# Referrers


def test_referrers_come_from_the_api_or_else_from_the_tag(registry):
    registry.attach(IMAGE.manifest_digest, b"note", "text/plain")
    (found,) = repository(registry).referrers(IMAGE.manifest_digest)
    assert found.artifact_type == "text/plain"
    registry.has_referrers_api = False
    assert repository(registry).referrers(IMAGE.manifest_digest) == (found,)
    assert registry.paths()[-1] == f"/v2/{REPOSITORY}/manifests/{IMAGE.manifest_digest.replace(':', '-')}"


def test_a_registry_without_either_has_no_referrers(registry):
    registry.has_referrers_api = False
    assert repository(registry).referrers(IMAGE.manifest_digest) == ()


def test_passwords_show_in_no_message_and_no_representation(registry):
    registry.answerer = lambda asked, exchange: exchange.reply(401, b"", WWW_Authenticate='Basic realm="r"') or True
    error = _refusal(ConflictError, lambda: repository(registry, credentials=[ALICE]).resolve("1"))
    assert "secret-a" not in f"{error!r}{error}{error.hint}{ALICE!r}"


def test_an_empty_blob_has_a_digest_as_well(registry):
    registry.blobs[digest(b"")] = b""
    empty = Descriptor(media_type="x", digest=digest(b""), size=0)
    assert _read(registry, empty) == b""


@pytest.mark.parametrize("host", ["a\0b.test", "a" * 70 + ".test", "..", "xn--\udcff.test"])
def test_a_redirect_to_a_name_that_is_none_is_no_fault_of_ours(registry, host):
    """A fault would stand for an hour against the digest, which others may have elsewhere."""
    client = repository(registry, wire=Wire(ssl.create_default_context()))
    question = client._redirect(client._question("/v2/", "*/*"), f"https://{host}/x", "*/*")

    def ask():
        with client._wire.get(question, client._deadline):
            pass

    assert _refusal(UnavailableError, ask).code == "scanner.http.name"
