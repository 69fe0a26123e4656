import copy
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from bastide.cluster.gate import report as report_module
from bastide.cluster.gate import trusted as trusted_module
from bastide.cluster.gate.report import Failure, ImageReport
from bastide.cluster.gate.trusted import TrustedSigner
from bastide.enclave.image import EnclaveKind
from bastide.enclave.signers import DebugPolicy
from bastide.errors import MalformedError
from bastide.pods.tree import Path as TreePath
from bastide.pods.tree import at
from support.gate import REPOSITORY, Tree, enclave, key_tree, report, trusted_tree

CRDS = Path(__file__).parents[3] / "deploy" / "crds"
VERSION = ("spec", "versions", 0)


def crd(plural: str) -> Tree:
    return yaml.safe_load((CRDS / f"{plural}.bastide.dev.yaml").read_text())


def schema(plural: str) -> Tree:
    tree = at(crd(plural), (*VERSION, "schema", "openAPIV3Schema"))
    assert isinstance(tree, dict)
    return tree


def field(plural: str, *steps: str) -> Tree:
    """The schema of a field; ``[]`` steps into the entries of a list."""
    path: TreePath = ()
    for step in steps:
        path += ("items",) if step == "[]" else ("properties", step)
    found = at(schema(plural), path)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("module", "plural"), [(trusted_module, "trustedsigners"), (report_module, "enclaveimages")])
def test_names_are_those_of_the_code(module: object, plural: str) -> None:
    tree = crd(plural)
    group, version = at(tree, ("spec", "group")), at(tree, (*VERSION, "name"))
    assert f"{group}/{version}" == module.API_VERSION
    assert at(tree, ("spec", "names", "kind")) == module.KIND
    assert at(tree, ("spec", "names", "plural")) == plural == module.PLURAL
    assert at(tree, ("spec", "scope")) == "Cluster"


def test_what_the_code_writes_fits_the_schema() -> None:
    good = report(enclave(insecure=("a",), problem="b"), statements=(b"{}",))
    failed = report(failure=Failure(code="a", message="b"))
    for facts in (good, failed):
        jsonschema_rs.validator_for(schema("enclaveimages")).validate(facts.build())
    full = trusted_tree(
        mrEnclave="ab" * 32,
        productId=1,
        minimumSvn=2,
        debug="allow",
        provision=True,
        namespaces=["a", "b-*", "*"],
        statementKeys=[key_tree(REPOSITORY)],
    )
    jsonschema_rs.validator_for(schema("trustedsigners")).validate(full)
    TrustedSigner.parse(full)


def test_the_schema_knows_every_field_and_no_other() -> None:
    spec = field("trustedsigners", "spec")
    assert set(spec["properties"]) == {*trusted_module._RULE_FIELDS, "namespaces", "statementKeys"}
    assert set(field("enclaveimages", "report")["properties"]) == set(report_module._REPORT_FIELDS)
    written = report(enclave(insecure=("a",), problem="b")).build()
    place = ("report", "manifests", "[]", "enclaves", "[]")
    assert set(field("enclaveimages", *place)["properties"]) == set(
        at(written, ("report", "manifests", 0, "enclaves", 0))
    )
    block = at(written, ("report", "manifests", 0, "enclaves", 0, "blocks", 0))
    assert set(field("enclaveimages", *place, "blocks", "[]")["properties"]) == set(block)


def test_choices_and_bounds_are_those_of_the_code() -> None:
    enclaves = ("report", "manifests", "[]", "enclaves")
    assert field("enclaveimages", *enclaves, "[]", "kind")["enum"] == list(EnclaveKind)
    assert field("trustedsigners", "spec", "debug")["enum"] == list(DebugPolicy)
    most = {
        ("report", "manifests"): report_module.MOST_MANIFESTS,
        enclaves: report_module.MOST_ENCLAVES,
        (*enclaves, "[]", "blocks"): report_module.MOST_BLOCKS,
        ("report", "statements"): report_module.MOST_STATEMENTS,
    }
    for place, number in most.items():
        assert field("enclaveimages", *place)["maxItems"] == number
    assert field("enclaveimages", "report", "statements", "[]")["maxLength"] == report_module._LONGEST_BASE64
    assert field("trustedsigners", "spec", "namespaces")["maxItems"] == trusted_module.MOST_NAMESPACES
    assert field("trustedsigners", "spec", "statementKeys")["maxItems"] == trusted_module.MOST_KEYS
    repositories = field("trustedsigners", "spec", "statementKeys", "[]", "repositories")
    assert repositories["maxItems"] == trusted_module.MOST_REPOSITORIES


@pytest.mark.parametrize(
    "spec",
    [
        {"mrSigner": "ab"},
        {"productId": 65536},
        {"debug": "maybe"},
        {"namespaces": []},
        {"namespaces": ["a*b"]},
        {"namespaces": ["A"]},
        {"provision": "yes"},
        {"statementKeys": [{"name": "a"}]},
    ],
)
def test_what_the_schema_refuses_the_code_refuses_too(spec: Tree) -> None:
    tree = trusted_tree(**spec)
    assert not jsonschema_rs.validator_for(schema("trustedsigners")).is_valid(tree)
    with pytest.raises(MalformedError):
        TrustedSigner.parse(tree)


def test_every_text_and_list_is_bounded() -> None:
    """The API server refuses rules over fields without bounds, and etcd has an end."""

    def unbounded(tree: Tree, where: str) -> list[str]:
        found = []
        if tree.get("type") == "string" and not {"maxLength", "enum"} & set(tree):
            found.append(where)
        if tree.get("type") == "array":
            found += ([] if "maxItems" in tree else [where]) + unbounded(tree["items"], f"{where}[]")
        for name, below in tree.get("properties", {}).items():
            found += unbounded(below, f"{where}.{name}")
        return found

    for plural, top in (("trustedsigners", "spec"), ("enclaveimages", "report")):
        assert unbounded(field(plural, top), top) == []


def test_a_report_whose_name_is_another_is_refused_by_the_code_as_by_the_rule() -> None:
    tree = copy.deepcopy(report(enclave()).build())
    tree["metadata"]["name"] = "sha256-" + "0" * 64
    with pytest.raises(MalformedError):
        ImageReport.parse(tree)
