"""Statements that the real oras attaches to images vouch for enclaves that nobody can measure, and for no others."""

import json
import sys
import time

import pytest

from bastide.enclave.statement import PAYLOAD_TYPE
from e2e.api import eventually
from e2e.config import REGISTRY
from e2e.gated import created, enforce, judged_running, refused_event, require_let_go
from e2e.installed import Installed, refusal, sgx_pod
from e2e.stated import LATE_PODS, LateStatement, Stated

pytestmark = pytest.mark.usefixtures("tidy_chart", "late")
NOT_MEASURED = "MRENCLAVE"
LATE_SECONDS = 700
"""Statements are looked for again after 5 minutes, and the controller asks by itself each 5 minutes at most."""


@pytest.fixture(scope="module")
def stated(release: Installed) -> Stated:
    """The gate is shut, a signer is trusted, and so is who makes statements."""
    enforce(release)
    made = Stated(release.cluster, release.cluster.box.folder / "stated")
    release.apply(made.signer("stated", namespaces=["default"]))
    return made


def test_a_statement_admits_an_enclave_that_cannot_be_measured(release: Installed, stated: Stated) -> None:
    digest = stated.image("team/stated:1")
    stated.attach("team/stated", digest)
    require_tag_fallback(release, "team/stated", digest)
    created(release, sgx_pod("stated", "team/stated:1"))
    pod = judged_running(release, "stated")
    assert digest in pod["status"]["containerStatuses"][0]["imageID"]
    assert release.events("stated", "EnclavesAccepted")
    # The same image, so the same report with the same statement; but the statement is about the other repository.
    assert stated.copied("team/stated", digest, "team/copied:1") == digest
    assert NOT_MEASURED in refusal(lambda: release.cluster.create_pod(sgx_pod("copied", "team/copied:1")))


def require_tag_fallback(release: Installed, repository: str, digest: str) -> None:
    """This registry has no referrers API, and the index that clients keep instead names the statement."""
    asked = f"http://{REGISTRY}/v2/{repository}/referrers/{digest}"
    assert "404" in release.cluster.box.run("sh", "-c", f"busybox wget -O - {asked} 2>&1", check=False)
    tag = f"docker://{REGISTRY}/{repository}:{digest.replace(':', '-')}"
    index = json.loads(release.cluster.box.run("skopeo", "inspect", "--raw", "--tls-verify=false", tag))
    assert [one["artifactType"] for one in index["manifests"]] == [PAYLOAD_TYPE]


def test_what_an_unknown_key_signed_vouches_for_nothing(release: Installed, stated: Stated) -> None:
    stated.attach("team/forged", stated.image("team/forged:1"), key="unknown")
    created(release, sgx_pod("forged", "team/forged:1"))
    assert NOT_MEASURED in refused_event(release, "forged")


def test_a_statement_that_names_another_repository_vouches_for_nothing(release: Installed, stated: Stated) -> None:
    digest = stated.image("team/elsewhere:1")
    stated.attach("team/elsewhere", digest, about=("team/stated", digest))
    created(release, sgx_pod("elsewhere", "team/elsewhere:1"))
    assert NOT_MEASURED in refused_event(release, "elsewhere")


def test_a_statement_about_another_image_vouches_for_nothing(release: Installed, stated: Stated) -> None:
    other, digest = stated.image("team/mistaken:other"), stated.image("team/mistaken:1")
    stated.attach("team/mistaken", digest, about=("team/mistaken", other))
    created(release, sgx_pod("mistaken", "team/mistaken:1"))
    assert NOT_MEASURED in refused_event(release, "mistaken")


def test_a_statement_attached_after_the_refusal_lets_the_pod_go_by_itself(
    release: Installed, late: LateStatement
) -> None:
    assert NOT_MEASURED in late.refusal
    eventually(lambda: require_let_go(release, late.POD, path=LATE_PODS), seconds=LATE_SECONDS, every=1)
    sys.stderr.write(f"\nlet go {time.monotonic() - late.attached_at:.0f} s after the statement was attached\n")
    release.cluster.in_phase(late.POD, "Running", path=LATE_PODS)
    release.cluster.api.delete(LATE_PODS)
