"""Administrative acts of a tenant: its policies, and the certificates that may sign them.

Each act and its audit record are kept together or not at all, before anybody hears of it. Acts of one tenant come one
after the other. A refused act is on record as well.

Source: reference attestation-service.md section 1 (results, modes).
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bastide.attest.audit import Entry
from bastide.attest.policyjws import (
    EMPTY_POLICY,
    PolicyJws,
    check_signing_certificate,
    leads_to,
    policy_as_jws,
    signing_jwk_of,
    thumbprint,
)
from bastide.attest.ports import CertificateRecord, CertificateRemoved, PolicyRecord, PolicyRemoved, Write
from bastide.attest.tenant import Tenant
from bastide.attest.tenants import Kind, Mode, TenantConfig
from bastide.errors import BastideError, ConflictError, PolicyError, UntrustedError
from bastide.policy import PolicyDocument
from bastide.token.json_text import Json

_MOST_CERTIFICATES = 20


class Administration:
    """The acts on one tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    @property
    def _config(self) -> TenantConfig:
        return self._tenant.config

    async def start(self) -> None:
        """Register the certificates with which an isolated tenant begins, if it has none yet."""
        config = self._config
        if config.mode is not Mode.ISOLATED:
            return
        async with self._tenant.changing:
            if not await self._registered():
                for certificate in config.signers:
                    check_signing_certificate(certificate)
                now = self._tenant.around.clock()
                records = [_record(config.name, certificate, now) for certificate in config.signers]
                await self._tenant.around.store.commit(records)

    async def get_policy(self, kind: Kind) -> str:
        """A token with the stored policy, verbatim; where none is stored, with the default."""
        stored = await self._tenant.around.store.policy(self._config.name, kind)
        if stored is None:
            stored = EMPTY_POLICY if kind is Kind.TPM else policy_as_jws(self._config.default_policy)
        return self._tenant.sign({"x-ms-policy": stored})

    async def set_policy(self, kind: Kind, text: str, *, request_id: str, who: str) -> str:
        """Store a policy; the result as a token.

        Raises:
            MalformedError: ``policy.*``: not a JWS, or not a policy.
            UntrustedError: ``policy.jws.signature``, ``attest.mode.signer``.
            PolicyError: ``attest.mode.shared``, ``attest.mode.unsigned``.
        """
        facts: dict[str, Json] = {"kind": kind.value, "who": who}
        async with self._tenant.changing:
            try:
                jws = await self._authorized(text, facts)
                document = PolicyDocument.parse(jws.policy_text())
            except BastideError as error:
                await self._refused("policy.set", request_id, facts, error)
                raise
            facts |= {"policy": document.hash, "policyToken": jws.token_hash}
            await self._done(
                "policy.set", request_id, facts, [PolicyRecord(tenant=self._config.name, kind=kind, jws=text)]
            )
            self._tenant.policies.forget(kind)
        await self._tenant.policies.settled()
        result: dict[str, Json] = {"x-ms-policy-result": "Updated", "x-ms-policy-token-hash": jws.token_hash}
        if jws.chain:
            result["x-ms-policy-signer"] = signing_jwk_of(jws.chain)
        return self._tenant.sign(result)

    async def reset_policy(self, kind: Kind, text: str, *, request_id: str, who: str) -> str:
        """Let the default count again; ``text`` is a JWS without payload, signed where the tenant asks for it.

        Raises:
            As ``set_policy``.
        """
        facts: dict[str, Json] = {"kind": kind.value, "who": who}
        async with self._tenant.changing:
            try:
                jws = await self._authorized(text, facts)
                if jws.payload:
                    raise PolicyError("attest.reset.payload", "expected a JWS without payload, seen one with")
            except BastideError as error:
                await self._refused("policy.reset", request_id, facts, error)
                raise
            await self._done("policy.reset", request_id, facts, [PolicyRemoved(tenant=self._config.name, kind=kind)])
            self._tenant.policies.forget(kind)
        await self._tenant.policies.settled()
        return self._tenant.sign({"x-ms-policy-result": "Removed"})

    async def get_certificates(self) -> str:
        """A token with the certificates that may sign policies; none for tenants that are not isolated."""
        keys: list[Json] = [signing_jwk_of([certificate]) for certificate in await self._registered()]
        return self._tenant.sign({"x-ms-policy-certificates": {"keys": keys}})

    async def change_certificate(self, text: str, *, add: bool, request_id: str, who: str) -> str:
        """Register a certificate or take one off; ``text`` is a JWS with it, signed by one that is registered.

        Raises:
            MalformedError: ``policy.jws.*``.
            UntrustedError: ``policy.jws.signature``, ``attest.mode.signer``.
            PolicyError: ``attest.mode.*``: not isolated, or unsigned.
            ConflictError: ``attest.certificates.last``, ``attest.certificates.many``.
        """
        act = "certificate.add" if add else "certificate.remove"
        facts: dict[str, Json] = {"who": who}
        async with self._tenant.changing:
            try:
                if self._config.mode is not Mode.ISOLATED:
                    message = f"policy certificates are for isolated tenants; this one is {self._config.mode}"
                    raise PolicyError("attest.mode.certificates", message)
                certificate = (await self._authorized(text, facts)).certificate()
                check_signing_certificate(certificate)
                name = facts["certificate"] = thumbprint(certificate)
                write = await self._certificate_write(certificate, add=add)
            except BastideError as error:
                await self._refused(act, request_id, facts, error)
                raise
            await self._done(act, request_id, facts, [write])
        result = "IsPresent" if add else "IsAbsent"
        return self._tenant.sign({"x-ms-certificate-thumbprint": name, "x-ms-policycertificates-result": result})

    async def _certificate_write(self, certificate: x509.Certificate, *, add: bool) -> Write:
        present = await self._registered()
        if add:
            if certificate not in present and len(present) >= _MOST_CERTIFICATES:
                raise ConflictError(
                    "attest.certificates.many", f"expected at most {_MOST_CERTIFICATES} policy certificates"
                )
            return _record(self._config.name, certificate, self._tenant.around.clock())
        if tuple(present) == (certificate,):
            message = "the last policy certificate cannot be removed: nobody could change the policy any more"
            raise ConflictError("attest.certificates.last", message, hint="add another certificate first")
        return CertificateRemoved(tenant=self._config.name, thumbprint=thumbprint(certificate))

    async def _authorized(self, text: str, facts: dict[str, Json]) -> PolicyJws:
        """The JWS, if its signer may do this in the tenant's mode."""
        mode = self._config.mode
        if mode is Mode.SHARED:
            raise PolicyError("attest.mode.shared", "this tenant is shared: its policies are its operator's")
        jws = PolicyJws.parse(text)
        if jws.chain:
            facts["signer"] = thumbprint(jws.chain[0])
        if mode is Mode.ISOLATED:
            if not jws.chain:
                message = "Unsigned JWS specified but this tenant is configured with signing certificates"
                raise PolicyError("attest.mode.unsigned", message, hint="sign with the key of a registered certificate")
            if not leads_to(jws.chain, await self._registered(), self._tenant.around.clock()):
                raise UntrustedError(
                    "attest.mode.signer",
                    f"the signer's certificate {facts['signer']} leads to no registered policy certificate",
                    hint="GET /certificates lists those that count",
                )
        return jws

    async def _registered(self) -> Sequence[x509.Certificate]:
        if self._config.mode is not Mode.ISOLATED:
            return ()
        records = await self._tenant.around.store.certificates(self._config.name)
        return tuple(x509.load_der_x509_certificate(record.certificate) for record in records)

    async def _done(self, act: str, request_id: str, facts: dict[str, Json], writes: Sequence[Write]) -> None:
        entry = Entry(tenant=self._config.name, act=act, request=request_id, outcome="allowed", facts=facts)
        await self._tenant.around.audit.append(entry, writes)

    async def _refused(self, act: str, request_id: str, facts: dict[str, Json], error: BastideError) -> None:
        told: dict[str, Json] = {**facts, "code": error.code, "message": str(error)}
        entry = Entry(tenant=self._config.name, act=act, request=request_id, outcome="refused", facts=told)
        await self._tenant.around.audit.append(entry)


def _record(tenant: str, certificate: x509.Certificate, now: datetime) -> CertificateRecord:
    return CertificateRecord(
        tenant=tenant,
        thumbprint=thumbprint(certificate),
        certificate=certificate.public_bytes(Encoding.DER),
        added_at=now.replace(microsecond=0),
    )
