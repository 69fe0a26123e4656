"""Manifests that other people published: what we read of them equals what was noted of them by hand (vectors)."""

import json
import re

import pytest

from bastide.errors import MalformedError
from bastide.pods.hostpaths import guarded_relation, is_aesmd
from bastide.pods.manifest import Document, read_documents, read_nodes
from bastide.pods.request import ContainerAsk, HostVolume, Problem, Role, SgxRequest, sgx_request
from bastide.pods.resources import Unit, dialect_of, epc_of
from bastide.pods.tree import Path, at, mapping, sequence, text
from bastide.pods.workload import EmbeddedAsk, Workload, embedded_in, passed_over, workloads
from bastide.units import parse_quantity
from support.vectors import vectors

Facts = dict[str, object]

FOLDER = vectors("manifests")
FILES = json.loads((FOLDER / "manifests.json").read_text())["files"]
TEMPLATES = [name for name, entry in FILES.items() if not entry["facts"]["yaml_valid"]]
VALUES = [name for name, entry in FILES.items() if any("(no kind)" in oddity for oddity in entry["oddities"])]
OBJECTS = [name for name in FILES if name not in TEMPLATES and name not in VALUES]


def raw(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def quantity_facts(resource: str, where: str, quantity: object, *, quoted: bool) -> Facts:
    """One ask as manifests.json has it. Pages have no ``epc_bytes`` there, and a slip has the bytes that it says."""
    facts: Facts = {"resource": resource, "where": where, "quantity": str(quantity), "quoted": quoted}
    dialect = dialect_of(resource)
    if dialect is not None and dialect.unit in (Unit.BYTES, Unit.MIB):
        try:
            facts["epc_bytes"] = epc_of(resource, quantity).bytes
        except MalformedError as error:
            if error.code != "epc.unit-slip":
                raise
            facts["epc_bytes"] = int(parse_quantity(str(quantity)))
    return facts


def mounts(workload: Workload, container: ContainerAsk, volumes: set[str]) -> list[Facts]:
    spec = at(workload.pod, container.path)
    found = []
    for mount in sequence(mapping(spec).get("volumeMounts")):
        volume, path = text(mapping(mount).get("name")), text(mapping(mount).get("mountPath"))
        if volume in volumes or (guarded_relation(path) or "").startswith("is /"):
            found.append({"volume": volume, "mountPath": path})
    return found


def container_facts(workload: Workload, container: ContainerAsk, volumes: set[str]) -> Facts:
    asked = [
        quantity_facts(
            ask.resource, ask.where, ask.quantity, quoted=workload.document.is_quoted(workload.pod_path + ask.path)
        )
        for ask in container.asks
    ]
    epc = [fact["epc_bytes"] for fact in asked if "epc_bytes" in fact]
    facts: Facts = {
        "name": container.name or None,
        "init": container.role is not Role.MAIN,
        "resources_asked": asked,
        "epc_bytes": epc[0] if epc else None,
    }
    if reached := mounts(workload, container, volumes):
        facts["sgx_mounts"] = reached
    if container.privileged:
        facts["privileged"] = True
    return facts


def device_facts(volume: HostVolume) -> Facts:
    return {"volume": volume.name, "hostPath": volume.host_path, "type": volume.host_path_type}


def aesm_facts(workload: Workload) -> list[Facts]:
    found: list[Facts] = []
    for volume in map(mapping, sequence(at(workload.pod, ("spec", "volumes")))):
        name, host_path = text(volume.get("name")), text(mapping(volume.get("hostPath")).get("path"))
        if host_path and is_aesmd(host_path):
            found.append({"volume": name, "hostPath": host_path, "other": None})
        elif "aesm" in name and not host_path:
            found.append({"volume": name, "hostPath": None, "other": [key for key in volume if key != "name"]})
    return found


def affinity_facts(workload: Workload) -> list[Facts]:
    terms = at(workload.pod, ("spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))
    expressions = [
        mapping(expression)
        for term in sequence(mapping(terms).get("nodeSelectorTerms"))
        for expression in sequence(mapping(term).get("matchExpressions"))
    ]
    return [{**expression, "required": True} for expression in expressions if looks_like_sgx(str(expression["key"]))]


def looks_like_sgx(words: str) -> bool:
    return re.search(r"sgx|\btee\b", words, re.IGNORECASE) is not None


def workload_facts(workload: Workload, request: SgxRequest) -> Facts:
    spec = mapping(workload.pod["spec"])
    aesm = aesm_facts(workload)
    volumes = {str(volume["volume"]) for volume in aesm} | {
        volume.name for volume in request.volumes if volume.host_path != "/dev"
    }
    facts: Facts = {
        "kind": workload.kind,
        "name": workload.name or None,
        "containers": [container_facts(workload, container, volumes) for container in request.containers],
        "devices_by_hostpath": [device_facts(volume) for volume in request.volumes if not volume.is_aesmd],
        "aesm_volumes": aesm,
        "quote_provider": request.quote_provider,
        "node_selector": {
            key: value for key, value in mapping(spec.get("nodeSelector")).items() if looks_like_sgx(key)
        },
        "node_affinity": affinity_facts(workload),
        "tolerations": sequence(spec.get("tolerations")),
    }
    namespaces = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key) is True]
    return {**facts, "host_namespaces": namespaces} if namespaces else facts


def embedded_facts(kind: str | None, ask: EmbeddedAsk, *, quoted: bool) -> Facts:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in ask.path)
    asked = quantity_facts(ask.resource, str(ask.path[-1]), ask.quantity, quoted=quoted)
    return {"kind": kind, "path": steps.removeprefix("."), **asked}


def document_embedded_facts(document: Document) -> list[Facts]:
    def quoted(path: Path) -> bool:
        return document.is_quoted(path)

    return [
        embedded_facts(document.kind, ask, quoted=quoted((*ask.path, ask.resource)))
        for ask in embedded_in(document.value)
        if not workloads(document)
    ]


def all_facts(documents: tuple[Document, ...]) -> Facts:
    facts: Facts = {
        "workloads": [
            workload_facts(workload, sgx_request(workload.pod))
            for document in documents
            for workload in workloads(document)
        ]
    }
    if embedded := [fact for document in documents for fact in document_embedded_facts(document)]:
        facts["embedded_asks"] = embedded
    if others := [other for document in documents for other in passed_over(document)]:
        facts["other_documents"] = [
            {"kind": other.kind, "apiVersion": other.api_version, "name": other.name} for other in others
        ]
    return facts


def problems(name: str) -> list[Problem]:
    return [
        problem
        for document in read_documents(raw(name), name)
        for workload in workloads(document)
        for problem in sgx_request(workload.pod).problems
    ]


@pytest.mark.parametrize("name", OBJECTS)
def test_facts_of_a_published_manifest_equal_those_noted_by_hand(name: str) -> None:
    noted = {key: value for key, value in FILES[name]["facts"].items() if key not in ("yaml_valid", "facts_from")}

    assert all_facts(read_documents(raw(name), name)) == noted


@pytest.mark.parametrize("name", VALUES)
def test_asks_inside_published_helm_values_equal_those_noted_by_hand(name: str) -> None:
    asks = [
        embedded_facts(None, ask, quoted=(found := node.at((*ask.path, ask.resource))) is not None and found.quoted)
        for node in read_nodes(raw(name), name)
        for ask in embedded_in(node.value())
    ]

    assert asks == FILES[name]["facts"]["embedded_asks"]


@pytest.mark.parametrize("name", VALUES)
def test_refuses_published_helm_values_as_no_manifest(name: str) -> None:
    with pytest.raises(MalformedError) as refusal:
        read_documents(raw(name), name)

    assert refusal.value.code == "manifest.not-kubernetes"
    assert "Helm" in (refusal.value.hint or "")


@pytest.mark.parametrize("name", TEMPLATES)
def test_refuses_a_published_template_with_its_line_and_the_way_to_render_it(name: str) -> None:
    with pytest.raises(MalformedError) as refusal:
        read_documents(raw(name), name)

    line = int(str(refusal.value.where).rpartition(":")[2])
    assert any("template" in oddity for oddity in FILES[name]["oddities"])
    assert refusal.value.code == "manifest.template"
    assert "{{" in raw(name).decode().splitlines()[line - 1]
    assert "helm template" in (refusal.value.hint or "")


def test_problems_of_published_manifests_are_the_oddities_noted_by_hand() -> None:
    found = {name: {problem.code for problem in problems(name)} for name in OBJECTS}
    slips = {name for name in OBJECTS if any("MiB meant?" in oddity for oddity in FILES[name]["oddities"])}
    nameless = {name for name in OBJECTS if "container without a usable name" in FILES[name]["oddities"]}

    assert {name: codes for name, codes in found.items() if codes} == {
        **{name: {"epc.unit-slip"} for name in slips},
        **{name: {"pod.shape"} for name in nameless},
    }
