"""The SGX instructions of one simulated processor. SIMULATION.

Each instruction is a method that takes and checks what the SDM says. What an enclave may see of itself (EREPORT,
EGETKEY) answers only after EINIT. Page contents are kept for measured pages; the others are zero and are only counted.
Where hardware raises #GP or #PF the method raises ``MalformedError``; where it returns an error code in RAX, it raises
``UntrustedError`` with the code's name.

Source: Intel SDM vol. 3D, "SGX Instruction References".
"""

import secrets
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes, Xfrm
from bastide.sgx.keys import (
    EnclaveIdentity,
    KeyName,
    KeyPolicy,
    KeyRequest,
    Platform,
    key_dependencies,
    report_key_dependencies,
)
from bastide.sgx.measurement import Measurement
from bastide.sgx.report import Report, TargetInfo
from bastide.sgx.secs import PageFlags, PageType, SecInfo, Secs, Tcs, TcsFlags
from bastide.sgx.sigstruct import SigStruct
from bastide.sgx.types import MrSigner
from bastide.sim.epc import Epc
from bastide.units import PAGE_SIZE

CHUNK = 256
"""Bytes that one EEXTEND measures."""

_MANDATORY_XFRM = Xfrm.X87 | Xfrm.SSE
_NOT_WITH_EADD = PageFlags.PENDING | PageFlags.MODIFIED | PageFlags.PR
_PROVISIONING_KEYS = (KeyName.PROVISION, KeyName.PROVISION_SEAL)


class EinitError(IntEnum):
    """What EINIT answers in RAX when it refuses; raised as ``UntrustedError`` ``einit.<name in lower case>``."""

    INVALID_SIG_STRUCT = 1
    INVALID_ATTRIBUTE = 2
    INVALID_MEASUREMENT = 4
    INVALID_SIGNATURE = 8
    INVALID_EINITTOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fuses:
    """What is burnt into one processor: 16-byte roots of its keys, and what goes into them."""

    root: bytes
    provisioning_root: bytes
    platform: Platform


@dataclass(slots=True, kw_only=True)
class _Enclave:
    secs: Secs
    measurement: Measurement = field(default_factory=Measurement)
    contents: dict[int, bytes] = field(default_factory=dict)
    identity: EnclaveIdentity | None = None


class Cpu:
    """One processor package.

    Args:
        fuses: its secrets.
        epc: the EPC that its enclaves share.
    """

    def __init__(self, *, fuses: Fuses, epc: Epc) -> None:
        self.epc = epc
        self._fuses = fuses
        self._enclaves: dict[int, _Enclave] = {}
        self._last_eid = 0
        # EREPORT takes KEYID from a register that is set once when the processor starts.
        self._report_key_id = secrets.token_bytes(32)

    def ecreate(self, secs: Secs) -> int:
        """ECREATE: a new enclave; returns its number.

        Raises:
            MalformedError: ``ecreate.size``, ``ecreate.ssa_frame_size``, ``ecreate.attributes``, ``ecreate.kss``
                (CONFIGID or CONFIGSVN without the KSS attribute), ``ecreate.cet`` (CET_ATTRIBUTES without CET).
            UnavailableError: ``epc.exhausted``.
        """
        _check_secs(secs)
        self._last_eid += 1
        enclave = _Enclave(secs=secs)
        enclave.measurement.ecreate(secs.size, secs.ssa_frame_size)
        self.epc.create(self._last_eid)
        self._enclaves[self._last_eid] = enclave
        return self._last_eid

    def eadd(self, eid: int, offset: int, secinfo: SecInfo, content: bytes) -> None:
        """EADD: one page of 4096 bytes at ``offset`` from the base.

        Raises:
            MalformedError: ``enclave.unknown``, ``eadd.initialised``, ``eadd.offset``, ``eadd.content``,
                ``eadd.page_type``, ``eadd.permissions``, ``sgx.tcs.reserved``, ``epcm.page.present``.
            UnavailableError: ``epc.exhausted``.
        """
        if len(content) != PAGE_SIZE:
            raise MalformedError("eadd.content", f"a page has {PAGE_SIZE} bytes, not {len(content)}")
        enclave = self._growing(eid, offset, 1, "eadd")
        if secinfo.page_type is PageType.TCS:
            tcs = Tcs.parse(content)
            content = replace(tcs, flags=TcsFlags(int(tcs.flags) & ~int(TcsFlags.DBGOPTIN))).build()
            secinfo = SecInfo(page_flags=PageFlags(0), page_type=PageType.TCS)
        else:
            _check_regular(secinfo)
        self.epc.add(eid, offset // PAGE_SIZE, 1, secinfo.flags)
        enclave.measurement.eadd(offset, secinfo.flags)
        enclave.contents[offset] = content

    def eadd_zero_pages(self, eid: int, offset: int, count: int, secinfo: SecInfo) -> None:
        """EADD of ``count`` neighbouring zero pages (heap), as one step.

        Raises:
            MalformedError, UnavailableError: as ``eadd``; ``eadd.page_type`` also for a TCS.
        """
        enclave = self._growing(eid, offset, count, "eadd")
        _check_regular(secinfo)
        self.epc.add(eid, offset // PAGE_SIZE, count, secinfo.flags)
        enclave.measurement.eadd_unmeasured_run(offset, count, secinfo.flags)

    def eextend(self, eid: int, offset: int) -> None:
        """EEXTEND: measure the 256 bytes at ``offset``.

        Raises:
            MalformedError: ``enclave.unknown``, ``eextend.initialised``, ``eextend.offset``, ``eextend.page``.
        """
        enclave = self._growing(eid, offset - offset % PAGE_SIZE, 1, "eextend")
        if offset % CHUNK:
            raise MalformedError("eextend.offset", f"{offset:#x} is not a multiple of {CHUNK}")
        page, within = divmod(offset, PAGE_SIZE)
        if self.epc.entry(eid, page) is None:
            raise MalformedError("eextend.page", f"no page was added at {offset:#x}")
        content = enclave.contents.get(page * PAGE_SIZE, bytes(PAGE_SIZE))
        enclave.measurement.eextend(offset, content[within : within + CHUNK])

    def einit(self, eid: int, sigstruct: SigStruct, *, launch_key_hash: MrSigner) -> EnclaveIdentity:
        """EINIT with a zero EINITTOKEN: check the signature and start the enclave.

        Args:
            eid: the enclave.
            sigstruct: its signature.
            launch_key_hash: IA32_SGXLEPUBKEYHASH, which the kernel's driver sets before each EINIT.

        Raises:
            MalformedError: ``enclave.unknown``, ``einit.initialised``.
            UntrustedError: ``einit.<name>`` of ``EinitError``.
        """
        enclave = self._enclave(eid)
        if enclave.identity is not None:
            raise MalformedError("einit.initialised", f"enclave {eid} runs already")
        _check_signature(sigstruct)
        measured = enclave.measurement.digest()
        if sigstruct.enclave_hash != measured:
            raise _refused(
                EinitError.INVALID_MEASUREMENT,
                f"MRENCLAVE: signed for {sigstruct.enclave_hash.hex()}, loaded {measured.hex()}",
                "the enclave was changed after signing, or signed for other sizes: sign it again",
            )
        _check_identity(enclave.secs, sigstruct)
        if sigstruct.mr_signer != launch_key_hash:
            raise _refused(
                EinitError.INVALID_EINITTOKEN,
                "no launch token, and the signer is not the one in IA32_SGXLEPUBKEYHASH",
                "flexible launch control must be on; the kernel's driver sets the register to the enclave's signer",
            )
        enclave.identity = _identity(enclave.secs, sigstruct)
        return enclave.identity

    def identity(self, eid: int) -> EnclaveIdentity:
        """Who a running enclave is.

        Raises:
            MalformedError: ``enclave.unknown``, ``enclave.not-initialised``.
        """
        identity = self._enclave(eid).identity
        if identity is None:
            raise MalformedError("enclave.not-initialised", f"enclave {eid} has not passed EINIT")
        return identity

    def ereport(self, eid: int, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT: the enclave's report (``report_data``: 64 bytes) under the target's report key.

        Raises:
            MalformedError: ``enclave.unknown``, ``enclave.not-initialised``, ``sgx.report_body.field`` for another
                length.
        """
        platform = self._fuses.platform
        body = self.identity(eid).report_body(cpu_svn=platform.cpu_svn, report_data=report_data)
        block = report_key_dependencies(target, key_id=self._report_key_id, platform=platform)
        return Report(body=body, key_id=self._report_key_id, mac=_cmac(_cmac(self._fuses.root, block), body.build()))

    def egetkey(self, eid: int, request: KeyRequest) -> bytes:
        """EGETKEY: 16 bytes.

        Raises:
            UntrustedError: ``egetkey.<name>`` (see ``bastide.sgx.keys.KeyRefusal``).
            MalformedError: ``sgx.keyrequest.key_policy``, ``enclave.not-initialised``.
        """
        block = key_dependencies(request, self.identity(eid), self._fuses.platform)
        fuses = self._fuses
        return _cmac(fuses.provisioning_root if request.key_name in _PROVISIONING_KEYS else fuses.root, block)

    def seal_key_request(self, eid: int, name: KeyName, policy: KeyPolicy) -> KeyRequest:
        """A request as SDKs make it: current versions, bound to INIT and DEBUG, with a fresh KEYID.

        Raises:
            MalformedError: ``enclave.unknown``, ``enclave.not-initialised``.
        """
        return KeyRequest(
            key_name=name,
            key_policy=policy,
            isv_svn=self.identity(eid).isv_svn,
            cpu_svn=self._fuses.platform.cpu_svn,
            attribute_mask=Attributes(flags=AttributeFlags.INIT | AttributeFlags.DEBUG, xfrm=0),
            key_id=secrets.token_bytes(32),
        )

    def eremove(self, eid: int) -> None:
        """EREMOVE of all pages: the enclave is gone.

        Raises:
            MalformedError: ``enclave.unknown``.
        """
        self._enclave(eid)
        self.epc.remove(eid)
        del self._enclaves[eid]

    def _enclave(self, eid: int) -> _Enclave:
        enclave = self._enclaves.get(eid)
        if enclave is None:
            raise MalformedError("enclave.unknown", f"there is no enclave {eid}")
        return enclave

    def _growing(self, eid: int, offset: int, count: int, instruction: str) -> _Enclave:
        """The enclave, if pages at this place may still be added and measured."""
        enclave = self._enclave(eid)
        if enclave.identity is not None:
            raise MalformedError(f"{instruction}.initialised", f"enclave {eid} runs already: EINIT closed it")
        if offset % PAGE_SIZE or count < 1 or not 0 <= offset <= enclave.secs.size - count * PAGE_SIZE:
            raise MalformedError(
                f"{instruction}.offset",
                f"{count} pages at {offset:#x} do not lie in whole pages within the {enclave.secs.size:#x} bytes",
            )
        return enclave


def _check_secs(secs: Secs) -> None:
    if secs.size < 2 * PAGE_SIZE or secs.size & (secs.size - 1):
        raise MalformedError("ecreate.size", f"SIZE is a power of two of at least 8192, not {secs.size:#x}")
    if secs.ssa_frame_size < 1:
        raise MalformedError("ecreate.ssa_frame_size", "SSAFRAMESIZE is at least one page")
    flags, xfrm = secs.attributes.flags, secs.attributes.xfrm
    if (
        AttributeFlags.INIT in flags
        or AttributeFlags.MODE64BIT not in flags
        or xfrm & _MANDATORY_XFRM != _MANDATORY_XFRM
    ):
        raise MalformedError(
            "ecreate.attributes",
            f"expected MODE64BIT without INIT, and x87 and SSE in XFRM; seen {int(flags):#x} and {xfrm:#x}",
        )
    if AttributeFlags.KSS not in flags and (any(secs.config_id) or secs.config_svn):
        raise MalformedError("ecreate.kss", "CONFIGID and CONFIGSVN are zero without the KSS attribute")
    if AttributeFlags.CET not in flags and secs.cet_attributes:
        raise MalformedError("ecreate.cet", "CET_ATTRIBUTES is zero without the CET attribute")


def _check_regular(secinfo: SecInfo) -> None:
    """What EADD asks of SECINFO for a page that is no TCS."""
    flags = secinfo.page_flags
    if secinfo.page_type is not PageType.REG:
        raise MalformedError("eadd.page_type", f"expected a REG page, seen {secinfo.page_type.name}")
    if flags & _NOT_WITH_EADD or (PageFlags.W in flags and PageFlags.R not in flags):
        raise MalformedError("eadd.permissions", f"expected R, W, X and no W without R, seen {int(flags):#x}")


def _check_signature(sigstruct: SigStruct) -> None:
    for check in sigstruct.checks():
        if not check.ok:
            structural = check.name in ("sigstruct.vendor", "sigstruct.exponent")
            error = EinitError.INVALID_SIG_STRUCT if structural else EinitError.INVALID_SIGNATURE
            raise _refused(error, f"{check.name}: expected {check.expected}, seen {check.seen}", check.hint)


def _check_identity(secs: Secs, sigstruct: SigStruct) -> None:
    """What the signer forces by masks must be what the enclave was created with."""
    mask = sigstruct.attribute_mask
    pairs = (
        ("ATTRIBUTES", secs.attributes.masked(mask).build().hex(), sigstruct.attributes.masked(mask).build().hex()),
        ("MISCSELECT", secs.misc_select & sigstruct.misc_mask, sigstruct.misc_select & sigstruct.misc_mask),
        (
            "CET_ATTRIBUTES",
            secs.cet_attributes & sigstruct.cet_attributes_mask,
            sigstruct.cet_attributes & sigstruct.cet_attributes_mask,
        ),
    )
    for name, created, signed in pairs:
        if created != signed:
            raise _refused(
                EinitError.INVALID_ATTRIBUTE,
                f"{name} under its mask: signed {signed}, created with {created}",
                "start the enclave with the attributes that it was signed for",
            )
    ids = (sigstruct.isv_family_id, sigstruct.isv_ext_prod_id)
    if AttributeFlags.KSS not in secs.attributes.flags and any(map(any, ids)):
        raise _refused(
            EinitError.INVALID_SIG_STRUCT,
            "ISVFAMILYID and ISVEXTPRODID are zero without the KSS attribute",
            "sign with KSS, or without these identifiers",
        )


def _identity(secs: Secs, sigstruct: SigStruct) -> EnclaveIdentity:
    attributes = Attributes(flags=secs.attributes.flags | AttributeFlags.INIT, xfrm=secs.attributes.xfrm)
    return EnclaveIdentity(
        attributes=attributes,
        mr_enclave=sigstruct.enclave_hash,
        mr_signer=sigstruct.mr_signer,
        isv_prod_id=sigstruct.isv_prod_id,
        isv_svn=sigstruct.isv_svn,
        misc_select=secs.misc_select,
        cet_attributes=secs.cet_attributes,
        config_id=secs.config_id,
        config_svn=secs.config_svn,
        isv_family_id=sigstruct.isv_family_id,
        isv_ext_prod_id=sigstruct.isv_ext_prod_id,
    )


def _refused(error: EinitError, message: str, hint: str) -> UntrustedError:
    return UntrustedError(
        f"einit.{error.name.lower()}", f"EINIT answers SGX_{error.name} ({int(error)}): {message}", hint=hint
    )


def _cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()
