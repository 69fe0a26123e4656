"""AdmissionReviews for tests, and a world to judge them by."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bastide.cluster.admission import mutate as mutating
from bastide.cluster.admission import validate as validating
from bastide.cluster.admission.review import Answer, Envelope, Review
from bastide.cluster.admission.subject import Subject
from bastide.cluster.admission.world import World
from bastide.cluster.gate.names import SCHEDULING_GATE
from bastide.cluster.gate.pod import Judgement
from bastide.cluster.gate.verdict import Standing
from bastide.cluster.resolving import Resolved, Resolver, Unresolved
from bastide.errors import BastideError
from bastide.pods.images import ImageReference
from bastide.pods.policy import DEFAULT_POLICY, AdmissionPolicy, GateMode, OnMiss, SignerGate
from bastide.units import GIB, Bytes
from support.kube_objects import apply_json_patch

Tree = dict[str, object]

CONTROLLER = "system:serviceaccount:bastide-system:bastide-controller"
TENANT = "system:serviceaccount:shop:robot"
DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32
PINNED = f"registry.example/demo@{DIGEST}"
EPC = "sgx.intel.com/epc"
GATED = [{"name": SCHEDULING_GATE}]


def review_tree(new: Tree | None, old: Tree | None = None, **fields: object) -> Tree:
    """The JSON that the API server sends: a pod made by a tenant in ``shop``, unless ``fields`` say otherwise."""
    request: Tree = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "name": "demo",
        "namespace": "shop",
        "operation": "CREATE" if old is None else "UPDATE",
        "userInfo": {"username": TENANT, "groups": ["system:authenticated"]},
        "object": new,
        "oldObject": old,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        **fields,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def review(new: Tree | None, old: Tree | None = None, **fields: object) -> Review:
    return Review.of(Envelope.parse(json.dumps(review_tree(new, old, **fields)).encode()))


def mutate(one: Review, the_world: World, resolver: Resolver | None) -> Answer:
    return asyncio.run(mutating.mutate(one, Subject.of(one.new), the_world, resolver))


def validate(one: Review, the_world: World) -> Answer:
    return validating.validate(one, Subject.of(one.new), the_world)


def ephemeral(new: Tree, old: Tree, **fields: object) -> Review:
    return review(new, old, subResource="ephemeralcontainers", **fields)


def gate(mode: str = "enforce", **fields: object) -> AdmissionPolicy:
    """A policy with the signer gate on."""
    on_miss = OnMiss(fields.pop("on_miss", "gate"))
    return AdmissionPolicy(signer_gate=SignerGate(mode=GateMode(mode), on_miss=on_miss), **fields)


def world(
    policy: AdmissionPolicy = DEFAULT_POLICY,
    *,
    accepted: Sequence[str] = (),
    refused: Sequence[str] = (),
    declared: Mapping[str, Bytes] | None = None,
) -> World:
    """A world with one node, in which the images of these digests are accepted or refused; others are unknown."""

    def judge(one, namespace: str) -> Judgement:
        if one.image.digest in accepted:
            return Judgement(standing=Standing.ACCEPTED)
        if one.image.digest in refused:
            return Judgement(standing=Standing.REFUSED, reasons=("enclave.signer: expected a TrustedSigner",))
        return Judgement(standing=Standing.UNKNOWN, reasons=("image.report",))

    return World(
        policy=policy,
        declared_classes=declared or {},
        present_epc=(Bytes(16 * GIB),),
        controller=CONTROLLER,
        judge=judge,
    )


@dataclass
class FakeResolver:
    """Knows digests by the image's text; remembers what it was asked."""

    known: Mapping[str, Resolved | Unresolved] = field(default_factory=dict)
    error: BastideError | None = None
    default: Resolved | None = None
    asked: list[tuple[str, tuple[str, ...], str, tuple[str, ...], bool]] = field(default_factory=list)

    async def resolve(self, namespace, pull_secrets, service_account, images, *, dry_run):
        texts = tuple(image.build() for image in images)
        self.asked.append((namespace, tuple(pull_secrets), service_account, texts, dry_run))
        if self.error is not None:
            raise self.error
        found: dict[ImageReference, Resolved | Unresolved] = {}
        for image in images:
            outcome = self.known.get(image.build(), self.default)
            if outcome is not None:
                found[image] = outcome
        return found


def patched(tree: Tree, answer: Answer) -> Tree:
    """The object after the answer's patch, applied by the letter of RFC 6902."""
    response = json.loads(answer.build("u"))["response"]
    if "patch" not in response:
        return tree
    assert response["patchType"] == "JSONPatch"
    return apply_json_patch(tree, json.loads(base64.b64decode(response["patch"])))
