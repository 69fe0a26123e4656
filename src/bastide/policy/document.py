"""A policy as people store and send it: its text, what the text means, and the hash that names it."""

import base64
import hashlib
from dataclasses import dataclass, field

from bastide.errors import MalformedError
from bastide.policy.check import check
from bastide.policy.parser import parse_syntax
from bastide.policy.program import Program
from bastide.policy.syntax import Policy


def parse(text: str) -> Policy:
    """The policy that ``text`` says, with every rule of the language checked.

    Raises:
        MalformedError: codes ``policy.*``, ``where`` is ``line L, column C``.
    """
    return check(parse_syntax(text))


def policy_hash(text: str) -> str:
    """The claim ``x-ms-policy-hash``: base64url(SHA-256(base64url(UTF-8 text))), unpadded.

    Raises:
        MalformedError: ``policy.text.encoding``.

    Source: reproduced on recorded tokens, reference attestation-service.md section 1.
    """
    try:
        encoded = base64.urlsafe_b64encode(text.encode()).rstrip(b"=")
    except UnicodeEncodeError as error:
        raise MalformedError("policy.text.encoding", "the policy holds half of a surrogate pair, not text") from error
    return base64.urlsafe_b64encode(hashlib.sha256(encoded).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A policy with the text that it came from.

    Attributes:
        text: as its author wrote it; the hash is over these characters.
        policy: what it means.
        hash: claim ``x-ms-policy-hash``.
        program: the policy made ready for ``evaluate``.
    """

    text: str
    policy: Policy
    hash: str
    program: Program = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> "PolicyDocument":
        """Read a policy's text.

        Raises:
            MalformedError: codes ``policy.*``.
        """
        policy = parse(text)
        return cls(text=text, policy=policy, hash=policy_hash(text), program=Program.of(policy))
