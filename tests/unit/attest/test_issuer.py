import pytest

from bastide.attest.issuer import check_issuer, says_simulation
from bastide.errors import ConfigError


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://a.example/simulation", True),
        ("https://a.example/simulation/team", True),
        ("http://127.0.0.1:8080/lab/Simulation-1", True),
        ("https://a.example", False),
        ("https://simulation.example/lab", False),
    ],
)
def test_reads_simulation_from_the_path_alone(issuer: str, expected: bool) -> None:
    assert says_simulation(issuer) is expected


@pytest.mark.parametrize(
    "issuer",
    [
        *("", "attest", "ftp://a.example/x", "https://", "https://a.example/", "https://a.example/x?simulation"),
        *("https://a.example/x#simulation", "https://u@a.example/x", "https://[::1/x", "https://\u00e4.example/x"),
        *("https://a.example/x?", "https://a.example/x#"),
    ],
)
def test_rejects_what_is_no_issuer_url(issuer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        says_simulation(issuer)
    assert caught.value.code == "attest.issuer.url"


def test_accepts_issuers_that_tell_the_truth() -> None:
    check_issuer("https://a.example/simulation", simulation=True)
    check_issuer("https://a.example/prod", simulation=False)


def test_rejects_an_issuer_that_hides_a_simulation() -> None:
    with pytest.raises(ConfigError) as caught:
        check_issuer("https://simulation.example/prod", simulation=True)
    assert caught.value.code == "attest.issuer.simulation"


def test_rejects_real_evidence_under_an_issuer_that_says_simulation() -> None:
    with pytest.raises(ConfigError) as caught:
        check_issuer("https://a.example/simulation", simulation=False)
    assert caught.value.code == "attest.issuer.real"
