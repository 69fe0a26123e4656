import pytest

from bastide.errors import MalformedError
from bastide.pods.images import ImageReference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", None, None),
        ("ubuntu:20.04", "docker.io", "library/ubuntu", "20.04", None),
        ("docker.io/ubuntu", "docker.io", "library/ubuntu", None, None),
        ("index.docker.io/library/ubuntu", "docker.io", "library/ubuntu", None, None),
        ("oeciteam/sgx-test:1.0", "docker.io", "oeciteam/sgx-test", "1.0", None),
        ("mcr.microsoft.com/acc/samples/oe-helloworld:latest",
         "mcr.microsoft.com", "acc/samples/oe-helloworld", "latest", None),
        ("localhost/demo", "localhost", "demo", None, None),
        ("eiger-1.maas:5000/metrics-probe:1.5", "eiger-1.maas:5000", "metrics-probe", "1.5", None),
        ("[::1]:5000/a/b", "[::1]:5000", "a/b", None, None),
        (f"ghcr.io/a/b:v1@{DIGEST}", "ghcr.io", "a/b", "v1", DIGEST),
        ("a__b/c-d--e.f_g", "docker.io", "a__b/c-d--e.f_g", None, None),
    ],
)  # fmt: skip
def test_reads_reference(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    image = ImageReference.parse(text)
    assert (image.registry, image.repository, image.tag, image.digest) == (registry, repository, tag, digest)
    assert ImageReference.parse(image.build()) == image


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("oeciteam/sgx-test: 1.0", "image.space"),
        (" ubuntu", "image.space"),
        ("{{ .Values.image }}", "image.placeholder"),
        ("<dockerhubusername>/gsc-aks-python", "image.placeholder"),
        ("$IMAGE", "image.placeholder"),
        ("", "image.syntax"),
        ("/ubuntu", "image.syntax"),
        ("a//b", "image.syntax"),
        ("a/b/", "image.syntax"),
        ("Ubuntu", "image.syntax"),
        ("example.com/Upper", "image.syntax"),
        ("a/b___c", "image.syntax"),
        ("-host.example/a", "image.syntax"),
        ("example.com:port/a", "image.syntax"),
        ("f" * 64, "image.syntax"),
        ("a/" + "b" * 300, "image.syntax"),
        ("a." * 600 + "example/a", "image.syntax"),
        ("ubuntu:", "image.tag"),
        ("ubuntu:.hidden", "image.tag"),
        ("ubuntu:" + "t" * 129, "image.tag"),
        ("ubuntu:1:2", "image.tag"),
        ("ubuntu@", "image.digest"),
        ("ubuntu@sha256:abc", "image.digest"),
        ("ubuntu@md5:" + "0" * 32, "image.digest"),
        ("ubuntu@" + DIGEST.upper(), "image.digest"),
        (f"ubuntu@{DIGEST}@{DIGEST}", "image.digest"),
        ("ubuntu@sha256:" + "٣" * 64, "image.digest"),
    ],
)  # fmt: skip
def test_refuses_reference(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as error:
        ImageReference.parse(text)
    assert error.value.code == code
    assert error.value.hint


def test_names_the_corrected_reference_where_a_space_slipped_in() -> None:
    with pytest.raises(MalformedError) as error:
        ImageReference.parse("oeciteam/sgx-test: 1.0")
    assert error.value.hint is not None
    assert '"oeciteam/sgx-test:1.0"' in error.value.hint


def test_only_a_digest_pins_content() -> None:
    assert ImageReference.parse(f"ubuntu@{DIGEST}").is_pinned
    assert not ImageReference.parse("ubuntu:20.04").is_pinned
    assert not ImageReference.parse("ubuntu").is_pinned
