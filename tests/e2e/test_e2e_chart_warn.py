"""The signer gate in mode ``warn``, with a real signed enclave: nothing waits, and people are told all the same."""

import pytest

from e2e.api import eventually
from e2e.cluster import PODS
from e2e.gated import ENFORCED
from e2e.installed import Installed, sgx_pod
from support.vectors import vectors

pytestmark = pytest.mark.usefixtures("tidy_chart")
# Intel's provisioning certification enclave.
UNKNOWN = vectors("enclave") / "intel-sdk" / "intel-libsgx_pce.signed.so.1.25.100.1"
UNKNOWN_SIGNER = "c54a62f2be9ef76efb1f3930ad81ea7f60defc1f5f25e09b7c067a815ae0c6cb"
ANNOTATION = "bastide.dev/gate"
LABEL = "bastide.dev/inspection"


def image_with(probe: str) -> dict[str, bytes]:
    """The unknown signer's enclave in an image, with a word of its own, so that nobody has looked into it before."""
    return {"opt/enclave.so": UNKNOWN.read_bytes(), "probe": f"{probe}\n".encode()}


@pytest.fixture
def warned(release: Installed) -> Installed:
    """The release in mode ``warn``."""
    release.ensure(ENFORCED | {"policy": {"signerGate": {"mode": "warn"}}})
    digest = release.cluster.registry.push_busybox("team/unknown:probe", image_with("warn"))
    eventually(lambda: require_warn(release, digest))
    return release


def require_warn(installed: Installed, digest: str) -> None:
    """Every replica of the webhook has the new policy: what nobody looked into gets no gate, ten times in a row."""
    for _ in range(10):
        made = installed.cluster.api.create(f"{PODS}?dryRun=All", sgx_pod("probe", f"team/unknown@{digest}"))
        assert not made["spec"].get("schedulingGates")


def require_told(installed: Installed, name: str) -> None:
    """The controller has said what it found, and looks no more."""
    pod = installed.cluster.pod(name)
    assert UNKNOWN_SIGNER in pod["metadata"]["annotations"][ANNOTATION], pod["metadata"]
    assert LABEL not in pod["metadata"].get("labels", {}), pod["metadata"]


def test_in_mode_warn_an_unknown_signer_s_pod_runs_at_once_and_is_told_about_when_the_scanner_is_back(
    warned: Installed,
) -> None:
    cluster = warned.cluster
    digest = cluster.registry.push_busybox("team/unknown:warned", image_with("warned"))
    warned.scale("scanner", 0)
    made = cluster.api.create(PODS, sgx_pod("warned", f"team/unknown@{digest}"))
    assert not made["spec"].get("schedulingGates")  # and none can be put on later
    assert any("has not been inspected yet" in one for one in cluster.api.warnings), cluster.api.warnings
    running = cluster.running("warned")
    assert running["metadata"]["labels"][LABEL] == "pending"
    assert running["metadata"]["annotations"][ANNOTATION].endswith(f"{digest}: not looked into yet")

    warned.scale("scanner", 1)
    eventually(lambda: require_told(warned, "warned"))
    told = cluster.pod("warned")
    assert told["metadata"]["annotations"][ANNOTATION].startswith("warn: admitted, though: ")
    assert told["status"]["containerStatuses"][0]["restartCount"] == 0
    assert any(UNKNOWN_SIGNER in note for note in warned.events("warned", "EnclaveWarning"))

    # What is known is said at once, also of an image by its tag.
    cluster.create_pod(sgx_pod("warned-again", "team/unknown:warned"))
    # A warning has 256 characters: which check it was stands before where it is cut, and the code is kept.
    said = cluster.api.warnings
    assert any("enclave.signer" in one and "[gate.refused]" in one for one in said), said
    cluster.running("warned-again")
    eventually(lambda: require_told(warned, "warned-again"))
