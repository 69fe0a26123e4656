"""EGETKEY: KEYREQUEST, and what goes into each key.

What each key depends on is architectural; how hardware packs and derives it is not public. The packed block made here
is our own layout for the simulation: one fixed table in which what a key does not depend on is zero.

Source: Intel SDM Vol. 3D, "Key Request (KEYREQUEST)" and "EGETKEY" (table of key derivation).
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.codec import Layout, data, number, reserved
from bastide.sgx.report import ReportBody, TargetInfo
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner

KEYREQUEST_SIZE = 512

_KEYREQUEST = Layout(
    "sgx.keyrequest",
    KEYREQUEST_SIZE,
    'Intel SDM Vol. 3D, "Key Request (KEYREQUEST)"',
    number("key_name", 0, 2),
    number("key_policy", 2, 2),
    number("isv_svn", 4, 2),
    number("cet_attributes_mask", 6, 1),
    reserved(7, 1),
    data("cpu_svn", 8, 16),
    data("attribute_mask", 24, 16),
    data("key_id", 40, 32),
    number("misc_mask", 72, 4),
    number("config_svn", 76, 2),
    reserved(78, 434),
)

_DEPENDENCIES = Layout(
    "sgx.key_dependencies",
    304,
    "our own order of the inputs of EGETKEY",
    number("key_name", 0, 2),
    number("key_policy", 2, 2),
    number("isv_prod_id", 4, 2),
    number("isv_svn", 6, 2),
    number("config_svn", 8, 2),
    number("cet_attributes", 10, 1),
    number("cet_attributes_mask", 11, 1),
    number("misc_select", 12, 4),
    number("misc_mask", 16, 4),
    reserved(20, 12),
    data("owner_epoch", 32, 16),
    data("cpu_svn", 48, 16),
    data("attributes", 64, 16),
    data("attribute_mask", 80, 16),
    data("mr_enclave", 96, 32),
    data("mr_signer", 128, 32),
    data("isv_family_id", 160, 16),
    data("isv_ext_prod_id", 176, 16),
    data("config_id", 192, 64),
    data("key_id", 256, 32),
    data("seal_fuses", 288, 16),
)

_ZERO_16 = bytes(16)
_NO_CPU_SVN = CpuSvn(_ZERO_16)
_NO_ATTRIBUTES = Attributes(flags=AttributeFlags(0), xfrm=0)
# The processor always binds a key to these two, whatever the mask says.
_ALWAYS_BOUND = AttributeFlags.INIT | AttributeFlags.DEBUG


class KeyName(IntEnum):
    """KEYNAME: which key is asked for.

    Source: Intel SDM Vol. 3D, "KEYNAME".
    """

    EINITTOKEN = 0
    PROVISION = 1
    PROVISION_SEAL = 2
    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag):
    """KEYPOLICY: which parts of the enclave's identity a sealing key is bound to. The last four need KSS.

    Source: Intel SDM Vol. 3D, "KEYPOLICY".
    """

    MRENCLAVE = 0x1
    MRSIGNER = 0x2
    NOISVPRODID = 0x4
    CONFIGID = 0x8
    ISVFAMILYID = 0x10
    ISVEXTPRODID = 0x20


_NO_POLICY = KeyPolicy(0)
_KSS_POLICY = KeyPolicy.NOISVPRODID | KeyPolicy.CONFIGID | KeyPolicy.ISVFAMILYID | KeyPolicy.ISVEXTPRODID
# As numbers: inverting an IntFlag would forget the bits that it has no name for.
_UNKNOWN_POLICY = 0xFFFF & ~int(_KSS_POLICY | KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER)


class KeyRefusal(IntEnum):
    """What EGETKEY answers in RAX when it refuses; raised as UntrustedError ``egetkey.<name in lower case>``.

    Source: Intel SDM Vol. 3D, "EGETKEY" (return values).
    """

    INVALID_ATTRIBUTE = 2
    INVALID_CPUSVN = 32
    INVALID_ISVSVN = 64
    INVALID_KEYNAME = 256

    @property
    def code(self) -> str:
        """The error code of this refusal."""
        return f"egetkey.{self.name.lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """KEYREQUEST, 512 bytes.

    Attributes:
        key_name: 16 bits; a ``KeyName``, or another number that EGETKEY will refuse.
        key_policy: 16 bits.
        isv_svn: 16 bits.
        cet_attributes_mask: 8 bits.
        cpu_svn: 16 bytes.
        attribute_mask: which attributes the key is bound to.
        key_id: 32 bytes.
        misc_mask: 32 bits.
        config_svn: 16 bits.

    Source: Intel SDM Vol. 3D, "Key Request (KEYREQUEST)".
    """

    key_name: int
    key_policy: KeyPolicy = _NO_POLICY
    isv_svn: int = 0
    cet_attributes_mask: int = 0
    cpu_svn: CpuSvn = _NO_CPU_SVN
    attribute_mask: Attributes = _NO_ATTRIBUTES
    key_id: bytes = bytes(32)
    misc_mask: int = 0
    config_svn: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> "KeyRequest":
        """Read 512 bytes. Unknown key names pass: EGETKEY answers them with an error code of its own.

        Raises:
            MalformedError: ``sgx.keyrequest.size``, ``sgx.keyrequest.reserved``, ``sgx.keyrequest.key_policy``.
        """
        record = _KEYREQUEST.parse(raw)
        numbers = record.numbers
        policy = KeyPolicy(numbers["key_policy"])
        if policy & _UNKNOWN_POLICY:
            raise MalformedError(
                "sgx.keyrequest.key_policy", f"expected zero in bits 15:6, seen {numbers['key_policy']:#x}"
            )
        return cls(
            key_name=numbers["key_name"],
            key_policy=policy,
            isv_svn=numbers["isv_svn"],
            cet_attributes_mask=numbers["cet_attributes_mask"],
            cpu_svn=CpuSvn(record.data["cpu_svn"]),
            attribute_mask=Attributes.parse(record.data["attribute_mask"]),
            key_id=record.data["key_id"],
            misc_mask=numbers["misc_mask"],
            config_svn=numbers["config_svn"],
        )

    def build(self) -> bytes:
        """The 512 bytes.

        Raises:
            MalformedError: ``sgx.keyrequest.field``.
        """
        return _KEYREQUEST.build(
            {
                "key_name": self.key_name,
                "key_policy": int(self.key_policy),
                "isv_svn": self.isv_svn,
                "cet_attributes_mask": self.cet_attributes_mask,
                "cpu_svn": self.cpu_svn,
                "attribute_mask": self.attribute_mask.build(),
                "key_id": self.key_id,
                "misc_mask": self.misc_mask,
                "config_svn": self.config_svn,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveIdentity:
    """Who an initialised enclave is: the identity part of its SECS, from which keys and reports are made.

    Attributes:
        attributes: flags and XFRM, with INIT set.
        mr_enclave, mr_signer: 32 bytes each.
        isv_prod_id, isv_svn: 16 bits each.
        misc_select: 32 bits.
        cet_attributes: 8 bits.
        config_id: 64 bytes.
        config_svn: 16 bits.
        isv_family_id, isv_ext_prod_id: 16 bytes each.

    Source: Intel SDM Vol. 3D, "SGX Enclave Control Structure (SECS)".
    """

    attributes: Attributes
    mr_enclave: MrEnclave
    mr_signer: MrSigner
    isv_prod_id: int
    isv_svn: int
    misc_select: int = 0
    cet_attributes: int = 0
    config_id: bytes = bytes(64)
    config_svn: int = 0
    isv_family_id: bytes = _ZERO_16
    isv_ext_prod_id: bytes = _ZERO_16

    def target_info(self) -> TargetInfo:
        """TARGETINFO that makes EREPORT address this enclave."""
        return TargetInfo(
            mr_enclave=self.mr_enclave,
            attributes=self.attributes,
            cet_attributes=self.cet_attributes,
            config_svn=self.config_svn,
            misc_select=self.misc_select,
            config_id=self.config_id,
        )

    def report_body(self, *, cpu_svn: CpuSvn, report_data: bytes) -> ReportBody:
        """The body that EREPORT writes for this enclave; ``report_data`` has 64 bytes."""
        return ReportBody(
            cpu_svn=cpu_svn,
            misc_select=self.misc_select,
            cet_attributes=self.cet_attributes,
            isv_ext_prod_id=self.isv_ext_prod_id,
            attributes=self.attributes,
            mr_enclave=self.mr_enclave,
            mr_signer=self.mr_signer,
            config_id=self.config_id,
            isv_prod_id=self.isv_prod_id,
            isv_svn=self.isv_svn,
            config_svn=self.config_svn,
            isv_family_id=self.isv_family_id,
            report_data=report_data,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the processor brings to every key.

    Attributes:
        cpu_svn: current security version, 16 bytes.
        owner_epoch: chosen by the machine's owner, 16 bytes.
        seal_fuses: unique to the processor, 16 bytes.
    """

    cpu_svn: CpuSvn
    owner_epoch: bytes
    seal_fuses: bytes


def report_key_dependencies(target: TargetInfo, *, key_id: bytes, platform: Platform) -> bytes:
    """The dependency block of the report key of ``target``.

    EREPORT makes the key of another enclave from it, EGETKEY the enclave's own.

    Args:
        target: whose key.
        key_id: KEYID of the REPORT, 32 bytes.
        platform: current CPUSVN, owner epoch and seal fuses.

    Raises:
        MalformedError: ``sgx.key_dependencies.field``.
    """
    return _packed(
        {
            "key_name": int(KeyName.REPORT),
            "attributes": target.attributes.build(),
            "misc_select": target.misc_select,
            "cet_attributes": target.cet_attributes,
            "mr_enclave": target.mr_enclave,
            "config_id": target.config_id,
            "config_svn": target.config_svn,
            "cpu_svn": platform.cpu_svn,
            "owner_epoch": platform.owner_epoch,
            "seal_fuses": platform.seal_fuses,
            "key_id": key_id,
        }
    )


def key_dependencies(request: KeyRequest, identity: EnclaveIdentity, platform: Platform) -> bytes:
    """What the key that an enclave asks for depends on, packed in 304 bytes of our own layout.

    A MAC of this block under a root key is the simulation's key. CPUSVN is compared component by component, as TCB
    levels are; hardware's order of CPUSVN values is not public.

    Args:
        request: KEYREQUEST.
        identity: of the asking enclave.
        platform: current CPUSVN, owner epoch and seal fuses.

    Raises:
        UntrustedError: ``egetkey.invalid_keyname``, ``egetkey.invalid_attribute`` (the enclave lacks PROVISIONKEY or
            EINITTOKENKEY), ``egetkey.invalid_cpusvn``, ``egetkey.invalid_isvsvn`` (also for a CONFIGSVN above the
            enclave's).
        MalformedError: ``sgx.keyrequest.key_policy`` where hardware faults (KSS policy without KSS, unknown policy);
            ``sgx.key_dependencies.field``.
    """
    name = _key_name(request)
    _check_policy(request, identity)
    if name is KeyName.REPORT:
        return report_key_dependencies(identity.target_info(), key_id=request.key_id, platform=platform)
    _check_permission(name, identity)
    _check_versions(request, identity, platform)
    values = _versions_and_masks(name, request, identity)
    values |= _signer(name, request, identity)
    if name in (KeyName.SEAL, KeyName.PROVISION_SEAL):
        values |= _policy_parts(request, identity)
    values |= _platform_parts(name, request, platform)
    return _packed(values)


def _packed(values: dict[str, int | bytes]) -> bytes:
    """The block, zero in every field that is not given."""
    absent: dict[str, int | bytes] = {
        field.name: bytes(field.size) if field.format.endswith("s") else 0 for field in _DEPENDENCIES.fields
    }
    return _DEPENDENCIES.build(absent | values)


def _refuse(refusal: KeyRefusal, message: str) -> UntrustedError:
    return UntrustedError(refusal.code, message)


def _key_name(request: KeyRequest) -> KeyName:
    try:
        return KeyName(request.key_name)
    except ValueError:
        raise _refuse(KeyRefusal.INVALID_KEYNAME, f"expected a key name of 0 to 4, seen {request.key_name}") from None


def _check_policy(request: KeyRequest, identity: EnclaveIdentity) -> None:
    needs_kss = request.key_policy & _KSS_POLICY
    if request.key_policy & _UNKNOWN_POLICY or (needs_kss and AttributeFlags.KSS not in identity.attributes.flags):
        raise MalformedError(
            "sgx.keyrequest.key_policy",
            f"key policy {int(request.key_policy):#x} has unknown bits or needs the KSS attribute",
            hint="sign and start the enclave with KSS, or ask with MRENCLAVE and MRSIGNER only",
        )


def _check_permission(name: KeyName, identity: EnclaveIdentity) -> None:
    needed = {
        KeyName.EINITTOKEN: AttributeFlags.EINITTOKENKEY,
        KeyName.PROVISION: AttributeFlags.PROVISIONKEY,
        KeyName.PROVISION_SEAL: AttributeFlags.PROVISIONKEY,
    }.get(name, AttributeFlags(0))
    if needed not in identity.attributes.flags:
        raise _refuse(KeyRefusal.INVALID_ATTRIBUTE, f"the {name.name} key needs the attribute {needed.name}")


def _check_versions(request: KeyRequest, identity: EnclaveIdentity, platform: Platform) -> None:
    # Wrong lengths pass here and fail when the block is packed.
    if any(asked > current for asked, current in zip(request.cpu_svn, platform.cpu_svn, strict=False)):
        raise _refuse(
            KeyRefusal.INVALID_CPUSVN,
            f"expected a CPUSVN up to {platform.cpu_svn.hex()}, seen {request.cpu_svn.hex()}",
        )
    for field, asked, own in (
        ("ISVSVN", request.isv_svn, identity.isv_svn),
        ("CONFIGSVN", request.config_svn, identity.config_svn),
    ):
        if asked > own:
            raise _refuse(KeyRefusal.INVALID_ISVSVN, f"{field}: expected up to the enclave's {own}, seen {asked}")


def _versions_and_masks(name: KeyName, request: KeyRequest, identity: EnclaveIdentity) -> dict[str, int | bytes]:
    """Attributes, MISCSELECT and CET under their masks, the masks themselves, and the ISVSVN asked for."""
    mask = Attributes(flags=request.attribute_mask.flags | _ALWAYS_BOUND, xfrm=request.attribute_mask.xfrm)
    return {
        "key_name": int(name),
        "isv_svn": request.isv_svn,
        "attributes": identity.attributes.masked(mask).build(),
        "attribute_mask": request.attribute_mask.build(),
        "misc_select": identity.misc_select & request.misc_mask,
        "misc_mask": request.misc_mask,
        "cet_attributes": identity.cet_attributes & request.cet_attributes_mask,
        "cet_attributes_mask": request.cet_attributes_mask,
    }


def _signer(name: KeyName, request: KeyRequest, identity: EnclaveIdentity) -> dict[str, int | bytes]:
    """MRSIGNER and product, unless the key or its policy leaves them out."""
    policy = request.key_policy
    values: dict[str, int | bytes] = {}
    if name is not KeyName.SEAL or KeyPolicy.MRSIGNER in policy:
        values["mr_signer"] = identity.mr_signer
    has_choice = name in (KeyName.SEAL, KeyName.PROVISION_SEAL)
    if not (has_choice and KeyPolicy.NOISVPRODID in policy):
        values["isv_prod_id"] = identity.isv_prod_id
    return values


def _policy_parts(request: KeyRequest, identity: EnclaveIdentity) -> dict[str, int | bytes]:
    """What the policy of a sealing key adds, and the policy itself."""
    policy = request.key_policy
    values: dict[str, int | bytes] = {"key_policy": int(policy)}
    if KeyPolicy.MRENCLAVE in policy and request.key_name == KeyName.SEAL:
        values["mr_enclave"] = identity.mr_enclave
    if KeyPolicy.CONFIGID in policy:
        values |= {"config_id": identity.config_id, "config_svn": request.config_svn}
    if KeyPolicy.ISVFAMILYID in policy:
        values["isv_family_id"] = identity.isv_family_id
    if KeyPolicy.ISVEXTPRODID in policy:
        values["isv_ext_prod_id"] = identity.isv_ext_prod_id
    return values


def _platform_parts(name: KeyName, request: KeyRequest, platform: Platform) -> dict[str, int | bytes]:
    """CPUSVN asked for; KEYID, owner epoch and seal fuses where the key is not Intel's to derive again."""
    values: dict[str, int | bytes] = {"cpu_svn": request.cpu_svn}
    if name in (KeyName.SEAL, KeyName.EINITTOKEN):
        values |= {"key_id": request.key_id, "owner_epoch": platform.owner_epoch}
    if name is not KeyName.PROVISION:
        values["seal_fuses"] = platform.seal_fuses
    return values
