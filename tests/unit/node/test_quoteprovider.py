import pytest

from bastide.errors import MalformedError
from bastide.node.quoteprovider import DEFAULT_URL, CollateralService, QuoteProviderConfig, service_of
from support.nodes import QCNL


def test_reads_json_with_comments_and_urls_in_it():
    config = QuoteProviderConfig.parse(QCNL)
    assert config.pccs_url == config.collateral_url == "https://pccs.example:8081/sgx/certification/v4/"
    assert config.secure_certificates
    assert not config.custom_requests


def test_collateral_may_come_from_elsewhere():
    config = QuoteProviderConfig.parse(
        b'{"pccs_url": "https://localhost:8081/v4/", "use_secure_cert": false,'
        b' "collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"}'
    )
    assert config.service is CollateralService.INTEL
    assert not config.secure_certificates


def test_reads_the_old_form():
    config = QuoteProviderConfig.parse(b"# PCS server\nPCS_URL=https://pccs.example/v1/\nUSE_SECURE_CERT=FALSE\n")
    assert (config.pccs_url, config.secure_certificates) == ("https://pccs.example/v1/", False)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"# nothing\n", b'{"pccs_url": "https://localhost:8081/sgx/certification/v4/"}']
)
def test_an_empty_file_means_the_librarys_own_default(raw):
    config = QuoteProviderConfig.parse(raw)
    assert (config.pccs_url, config.service) == (DEFAULT_URL, CollateralService.LOCAL)


@pytest.mark.parametrize("raw", [QCNL, b"{}", b'{"custom_request_options": {"a": 1}, "use_secure_cert": false}'])
def test_building_and_reading_gives_the_same(raw):
    config = QuoteProviderConfig.parse(raw)
    assert QuoteProviderConfig.parse(config.build()) == config


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://user:secret@pccs.example/v4/?key=secret#secret", "https://pccs.example/v4/"),
        ("http://[::1]:8081/v4/", "http://[::1]:8081/v4/"),
    ],
)
def test_credentials_in_a_url_are_left_out(url, plain):
    assert QuoteProviderConfig.parse(b'{"pccs_url": "%s"}' % url.encode()).pccs_url == plain


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"pccs_url": "x",}', "node.qcnl.syntax"),
        (b"[{}]", "node.qcnl.syntax"),
        (b"{" * 60_000, "node.qcnl.syntax"),
        (b'{"a": "\xff"}', "node.qcnl.syntax"),
        (b"{}" + b" " * 70_000, "node.qcnl.size"),
        (b'{"pccs_url": "ftp://x/"}', "node.qcnl.url"),
        (b'{"pccs_url": "https:///path"}', "node.qcnl.url"),
        (b'{"pccs_url": "https://x:99999/"}', "node.qcnl.url"),
        (b'{"pccs_url": "https://[x/"}', "node.qcnl.url"),
        (b'{"pccs_url": 3}', "node.qcnl.url"),
        (b"PCCS_URL=nothing\n", "node.qcnl.url"),
    ],
)
def test_refuses_what_the_library_cannot_read(raw, code):
    with pytest.raises(MalformedError) as refused:
        QuoteProviderConfig.parse(raw)
    assert refused.value.code == code


def test_a_message_about_a_bad_url_has_no_password_in_it():
    with pytest.raises(MalformedError) as refused:
        QuoteProviderConfig.parse(b'{"pccs_url": "ftp://user:hunter2@x/"}')
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("https://api.trustedservices.intel.com/sgx/certification/v4/", CollateralService.INTEL),
        ("http://169.254.169.254/metadata/THIM/sgx/certification/v4/", CollateralService.AZURE),
        ("https://global.acccache.azure.net/sgx/certification/v4/", CollateralService.AZURE),
        ("https://sgx-dcap-server.cn-beijing.aliyuncs.com/sgx/certification/v4/", CollateralService.ALIBABA),
        ("https://api.trustedservices.intel.com.evil.example/", CollateralService.OTHER),
        ("https://127.0.0.1:8081/", CollateralService.LOCAL),
    ],
)
def test_knows_services_by_their_hosts(url, service):
    assert service_of(url) is service
