"""Published manifests (other people's data): what their pods require can be read."""

from collections.abc import Iterator
from pathlib import Path

from bastide.cluster.placement import Requirements
from bastide.errors import MalformedError
from bastide.pods.manifest import read_documents
from bastide.pods.workload import Workload, workloads
from support.vectors import vectors


def readable_workloads(folder: Path) -> Iterator[Workload]:
    for file in sorted(folder.glob("*.y*ml")):
        try:
            documents = read_documents(file.read_bytes(), file.name)
            found = [workload for document in documents for workload in workloads(document)]
        except MalformedError:
            continue  # templates and broken YAML are the business of the reader's own tests
        yield from found


def test_every_readable_pod_of_the_published_manifests_has_requirements():
    read = [Requirements.parse(workload.pod) for workload in readable_workloads(vectors("manifests"))]
    assert len(read) > 40
    assert any("sgx.intel.com/epc" in dict(one.requests) for one in read)
    assert any(one.not_modelled for one in read)
