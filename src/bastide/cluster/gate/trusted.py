"""Whom a cluster trusts: the object ``TrustedSigner`` as a value, and several of them as one signers policy.

Each object is one rule of the signers file of ``bastide enclave verify``, and is read by the same code, so that both
mean the same; beside it stand the namespaces where it holds and the keys whose statements are believed::

    apiVersion: bastide.dev/v1alpha1
    kind: TrustedSigner
    metadata: {name: payments}
    spec:
      mrSigner: 8c4f...                  # 64 hex digits; mrSigner or mrEnclave or both, or statementKeys alone
      productId: 1
      minimumSvn: 3
      debug: forbid-attribute            # default; or forbid-mask, allow
      provision: false                   # whether its enclaves may have the provisioning key
      namespaces: [payments, payments-*] # absent: everywhere
      statementKeys:
      - name: release
        publicKey: |
          -----BEGIN PUBLIC KEY-----
          ...
        repositories: [registry.example/payments/*]

Keys whose private half is published are denied whatever any TrustedSigner says.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bastide.cluster.gate.tree_fields import TreeFields
from bastide.enclave import signers
from bastide.enclave.signers import MeasurementPolicy, SignerRule, SignersPolicy, StatementRule
from bastide.errors import MalformedError
from bastide.pods.tree import at, shape_of, text

API_VERSION: Final = "bastide.dev/v1alpha1"
KIND: Final = "TrustedSigner"
PLURAL: Final = "trustedsigners"

MOST_NAMESPACES: Final = 500
MOST_KEYS: Final = 20
MOST_REPOSITORIES: Final = 50

_CODE: Final = "trusted-signer"
_LONGEST: Final = 4096
_LONGEST_NAME: Final = 253
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PREFIX: Final = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,61})?\*")
_RULE_FIELDS: Final = ("mrSigner", "mrEnclave", "productId", "minimumSvn", "provision", "debug")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedSigner:
    """One object of the cluster.

    Attributes:
        name: of the object.
        rule: which enclaves it allows; None where it only names keys for statements.
        namespaces: names, or beginnings of names that end in ``*``; empty: everywhere.
        statements: whose statements are believed, one rule for each repository pattern of each key.
    """

    name: str
    rule: SignerRule | None = None
    namespaces: tuple[str, ...] = ()
    statements: tuple[StatementRule, ...] = ()

    def holds_in(self, namespace: str) -> bool:
        """Whether it says anything about pods of ``namespace``."""
        return not self.namespaces or any(
            namespace.startswith(name.removesuffix("*")) if name.endswith("*") else namespace == name
            for name in self.namespaces
        )

    @classmethod
    def parse(cls, tree: object) -> "TrustedSigner":
        """Read the object as the API server gives it. What others put into ``metadata`` is passed over.

        Raises:
            MalformedError: ``trusted-signer.kind``, ``.field``, ``.type``, ``.value``, ``.count``, ``.empty`` (says
                nothing); for what the signers file has too ``signers.shape``, ``signers.value``, ``signers.key`` and
                the codes of ``ImageReference.parse``. ``where`` is the field, from the object's root.
        """
        root = TreeFields.of(tree, KIND, _CODE, ("apiVersion", "kind", "metadata", "spec"))
        seen = (root.mapping.get("apiVersion"), root.mapping.get("kind"))
        name = text(at(tree, ("metadata", "name")))
        if seen != (API_VERSION, KIND) or not 0 < len(name) <= _LONGEST_NAME:
            raise MalformedError(f"{_CODE}.kind", f"expected {API_VERSION} {KIND} with a name, seen {seen!r:.100}")
        spec = TreeFields.of(root.mapping.get("spec"), "spec", _CODE, (*_RULE_FIELDS, "namespaces", "statementKeys"))
        signer = cls(
            name=name, rule=_rule(spec, name), namespaces=_namespaces(spec), statements=tuple(_statements(spec))
        )
        if signer.rule is None and not signer.statements:
            hint = "a rule for everyone is none: give mrSigner, mrEnclave or statementKeys"
            raise MalformedError(f"{_CODE}.empty", "expected mrSigner, mrEnclave or statementKeys", hint=hint)
        return signer


def signers_policy(
    trusted: Sequence[TrustedSigner], *, namespace: str, repository: str, measurement: MeasurementPolicy
) -> SignersPolicy:
    """What ``trusted`` say together about images of one repository that pods of one namespace run.

    Every key that some TrustedSigner gives for the repository is as good as any other: they become one rule.

    Args:
        trusted: all TrustedSigners of the cluster.
        namespace: of the pod.
        repository: ``registry/path``, as ``enclave.signers.repository_of`` writes it.
        measurement: whether an enclave that cannot be measured is refused.
    """
    here = [signer for signer in trusted if signer.holds_in(namespace)]
    keys = tuple(
        replace(key, name=f"{signer.name}/{key.name}")
        for signer in here
        for rule in signer.statements
        if rule.covers(repository)
        for key in rule.keys
    )
    return SignersPolicy(
        allow=tuple(signer.rule for signer in here if signer.rule is not None),
        measurement=measurement,
        statements=(StatementRule(repository=repository, keys=keys),) if keys else (),
    )


def _rule(spec: TreeFields, name: str) -> SignerRule | None:
    fields = {key: spec.mapping[key] for key in _RULE_FIELDS if key in spec.mapping}
    if not fields:
        return None
    for key, value in fields.items():
        if not isinstance(value, str | int):
            raise spec.refusal("type", key, f"expected text, a number, true or false, seen {shape_of(value)}")
    return _by_signers_file({"allow": [{"name": name, **fields}]}, "spec").allow[0]


def _namespaces(spec: TreeFields) -> tuple[str, ...]:
    names = spec.texts("namespaces", most=MOST_NAMESPACES, longest=_LONGEST_NAME)
    for name in names:
        if not _NAMESPACE.fullmatch(name) and not _PREFIX.fullmatch(name):
            message = f"expected the name of a namespace, or its beginning and *, seen {name!r:.80}"
            raise spec.refusal("value", "namespaces", message)
    if "namespaces" in spec.mapping and not names:
        raise spec.refusal("value", "namespaces", "expected at least one; without the field it holds everywhere")
    return names


def _statements(spec: TreeFields) -> list[StatementRule]:
    found: list[StatementRule] = []
    for entry, where in spec.items("statementKeys", most=MOST_KEYS):
        fields = TreeFields.of(entry, where, _CODE, ("name", "publicKey", "repositories"))
        key = {field: fields.text(field, longest=_LONGEST) for field in ("name", "publicKey")}
        repositories = fields.texts("repositories", most=MOST_REPOSITORIES, longest=_LONGEST)
        if not repositories:
            raise fields.refusal("value", "repositories", "expected at least one, such as registry.example/payments/*")
        rules = [{"repository": repository, "keys": [key]} for repository in repositories]
        found += _by_signers_file({"statements": rules}, where).statements
    return found


def _by_signers_file(spec: dict[str, object], where: str) -> SignersPolicy:
    """Read by the reader of signers files, whose words and rules are the same."""
    file = {"apiVersion": signers.API_VERSION, "kind": signers.KIND, "spec": spec}
    try:
        return SignersPolicy.parse(json.dumps(file).encode(), KIND)
    except MalformedError as error:
        # The path that such a message begins with is that of the file we wrote, not of the object.
        path, colon, said = error.message.partition(": ")
        if not error.code.startswith("signers.") or not colon:
            raise MalformedError(error.code, error.message, hint=error.hint, where=where) from None
        field = path.rpartition(".")[2]
        place = where if field.endswith("]") else f"{where}.{field}"
        raise MalformedError(error.code, said, hint=error.hint, where=place) from None
