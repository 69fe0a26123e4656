from dataclasses import replace

import pytest

from bastide.errors import MalformedError, UntrustedError
from bastide.sgx.attributes import AttributeFlags, Attributes
from bastide.sgx.keys import (
    EnclaveIdentity,
    KeyName,
    KeyPolicy,
    KeyRefusal,
    KeyRequest,
    Platform,
    key_dependencies,
    report_key_dependencies,
)
from bastide.sgx.types import CpuSvn, MrEnclave, MrSigner
from support.sgx_values import ALL_ATTRIBUTES, CPU_SVN, identity, platform

EVERY_RIGHT = AttributeFlags.KSS | AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKENKEY
SELF = identity(EVERY_RIGHT)
FULL_POLICY = KeyPolicy(0x3F) & ~KeyPolicy.NOISVPRODID


def request(name: KeyName, policy: KeyPolicy = KeyPolicy.MRSIGNER) -> KeyRequest:
    return KeyRequest(
        key_name=name,
        key_policy=policy,
        isv_svn=2,
        cet_attributes_mask=0xFF,
        cpu_svn=CPU_SVN,
        attribute_mask=ALL_ATTRIBUTES,
        key_id=b"k" * 32,
        misc_mask=0xFFFF_FFFF,
        config_svn=4,
    )


# One change of everything that a key might depend on.
OTHER_IDENTITY = {
    "attributes": {"attributes": replace(SELF.attributes, xfrm=7)},
    "misc_select": {"misc_select": 3},
    "mr_enclave": {"mr_enclave": MrEnclave(b"x" * 32)},
    "mr_signer": {"mr_signer": MrSigner(b"x" * 32)},
    "isv_prod_id": {"isv_prod_id": 8},
    "config_id": {"config_id": b"x" * 64},
    "family": {"isv_family_id": b"x" * 16},
    "ext_prod": {"isv_ext_prod_id": b"x" * 16},
    "cet": {"cet_attributes": 3},
}
OTHER_REQUEST = {
    "mask": {"attribute_mask": Attributes(flags=ALL_ATTRIBUTES.flags, xfrm=3)},
    "isv_svn": {"isv_svn": 1},
    "config_svn": {"config_svn": 3},
    "cpu_svn": {"cpu_svn": CpuSvn(bytes(16))},
    "key_id": {"key_id": b"x" * 32},
}
OTHER_PLATFORM = {"epoch": {"owner_epoch": b"x" * 16}, "fuses": {"seal_fuses": b"x" * 16}}


def bound_to(name: KeyName, policy: KeyPolicy) -> set[str]:
    """What the key changes with."""
    asked, here = request(name, policy), platform()
    plain = key_dependencies(asked, SELF, here)
    changed = {key: key_dependencies(asked, replace(SELF, **change), here) for key, change in OTHER_IDENTITY.items()}
    changed |= {key: key_dependencies(replace(asked, **change), SELF, here) for key, change in OTHER_REQUEST.items()}
    changed |= {key: key_dependencies(asked, SELF, replace(here, **change)) for key, change in OTHER_PLATFORM.items()}
    return {key for key, block in changed.items() if block != plain}


MASKED = {"attributes", "mask", "misc_select", "cet", "isv_svn", "cpu_svn"}


@pytest.mark.parametrize(
    ("name", "policy", "expected"),
    [
        (
            KeyName.REPORT,
            KeyPolicy(0),
            {"attributes", "misc_select", "cet", "mr_enclave", "config_id", "key_id", "epoch", "fuses"},
        ),
        (KeyName.SEAL, KeyPolicy.MRSIGNER, MASKED | {"mr_signer", "isv_prod_id", "key_id", "epoch", "fuses"}),
        (KeyName.SEAL, KeyPolicy.MRENCLAVE, MASKED | {"mr_enclave", "isv_prod_id", "key_id", "epoch", "fuses"}),
        (KeyName.SEAL, KeyPolicy.MRSIGNER | KeyPolicy.NOISVPRODID, MASKED | {"mr_signer", "key_id", "epoch", "fuses"}),
        (
            KeyName.SEAL,
            FULL_POLICY,
            MASKED
            | {"mr_signer", "mr_enclave", "isv_prod_id", "config_id", "config_svn", "family", "ext_prod"}
            | {"key_id", "epoch", "fuses"},
        ),
        (KeyName.EINITTOKEN, KeyPolicy(0), MASKED | {"mr_signer", "isv_prod_id", "key_id", "epoch", "fuses"}),
        (KeyName.PROVISION, KeyPolicy(0), MASKED | {"mr_signer", "isv_prod_id"}),
        (KeyName.PROVISION_SEAL, KeyPolicy(0), MASKED | {"mr_signer", "isv_prod_id", "fuses"}),
        (
            KeyName.PROVISION_SEAL,
            FULL_POLICY | KeyPolicy.NOISVPRODID,
            MASKED | {"mr_signer", "config_id", "config_svn", "family", "ext_prod", "fuses"},
        ),
    ],
)  # fmt: skip
def test_each_key_is_bound_to_what_the_manual_says_and_to_nothing_else(
    name: KeyName, policy: KeyPolicy, expected: set[str]
) -> None:
    assert bound_to(name, policy) == expected


def test_no_two_key_names_share_a_block() -> None:
    blocks = {key_dependencies(request(name, KeyPolicy(0)), SELF, platform()) for name in KeyName}
    assert len(blocks) == len(KeyName)


def test_the_report_key_depends_on_the_current_cpusvn() -> None:
    newer = replace(platform(), cpu_svn=CpuSvn(b"\xff" * 16))
    asked = request(KeyName.REPORT)
    assert key_dependencies(asked, SELF, newer) != key_dependencies(asked, SELF, platform())


def test_ereport_and_egetkey_agree_on_the_report_key() -> None:
    by_ereport = report_key_dependencies(SELF.target_info(), key_id=b"k" * 32, platform=platform())
    assert key_dependencies(request(KeyName.REPORT), SELF, platform()) == by_ereport


def test_what_the_mask_leaves_out_does_not_bind_the_key() -> None:
    asked = replace(request(KeyName.SEAL), attribute_mask=Attributes(flags=AttributeFlags(0), xfrm=0))
    other = replace(SELF, attributes=replace(SELF.attributes, xfrm=7))
    assert key_dependencies(asked, other, platform()) == key_dependencies(asked, SELF, platform())


def test_debug_always_binds_a_sealing_key_whatever_the_mask() -> None:
    asked = replace(request(KeyName.SEAL), attribute_mask=Attributes(flags=AttributeFlags(0), xfrm=0))
    debug = identity(EVERY_RIGHT | AttributeFlags.DEBUG)
    assert key_dependencies(asked, debug, platform()) != key_dependencies(asked, SELF, platform())


@pytest.mark.parametrize(
    ("refusal", "asked", "asking"),
    [
        (KeyRefusal.INVALID_KEYNAME, replace(request(KeyName.SEAL), key_name=5), SELF),
        (KeyRefusal.INVALID_ATTRIBUTE, request(KeyName.EINITTOKEN), identity(AttributeFlags.PROVISIONKEY)),
        (KeyRefusal.INVALID_ATTRIBUTE, request(KeyName.PROVISION), identity(AttributeFlags.EINITTOKENKEY)),
        (KeyRefusal.INVALID_ATTRIBUTE, request(KeyName.PROVISION_SEAL), identity()),
        (
            KeyRefusal.INVALID_CPUSVN,
            replace(request(KeyName.SEAL), cpu_svn=CpuSvn(CPU_SVN[:15] + b"\x01")),
            SELF,
        ),
        (KeyRefusal.INVALID_ISVSVN, replace(request(KeyName.SEAL), isv_svn=3), SELF),
        (KeyRefusal.INVALID_ISVSVN, replace(request(KeyName.SEAL), config_svn=5), SELF),
    ],
)
def test_egetkey_refuses_by_the_manuals_error(refusal: KeyRefusal, asked: KeyRequest, asking: EnclaveIdentity) -> None:
    with pytest.raises(UntrustedError) as error:
        key_dependencies(asked, asking, platform())
    assert error.value.code == refusal.code


def test_the_codes_of_refusals_are_stable() -> None:
    assert [(refusal.value, refusal.code) for refusal in KeyRefusal] == [
        (2, "egetkey.invalid_attribute"),
        (32, "egetkey.invalid_cpusvn"),
        (64, "egetkey.invalid_isvsvn"),
        (256, "egetkey.invalid_keyname"),
    ]


@pytest.mark.parametrize(
    "policy", [KeyPolicy.NOISVPRODID, KeyPolicy.CONFIGID, KeyPolicy.ISVFAMILYID, KeyPolicy.ISVEXTPRODID]
)
def test_a_kss_policy_without_kss_is_refused(policy: KeyPolicy) -> None:
    with pytest.raises(MalformedError) as error:
        key_dependencies(request(KeyName.SEAL, policy), identity(), platform())
    assert error.value.code == "sgx.keyrequest.key_policy"


def test_an_unknown_policy_bit_is_refused_in_bytes_and_in_values() -> None:
    unknown = request(KeyName.SEAL, KeyPolicy(0x40))
    with pytest.raises(MalformedError):
        key_dependencies(unknown, SELF, platform())
    with pytest.raises(MalformedError):
        KeyRequest.parse(unknown.build())


def test_a_cpusvn_of_wrong_length_is_refused() -> None:
    with pytest.raises(MalformedError):
        key_dependencies(replace(request(KeyName.SEAL), cpu_svn=CpuSvn(b"")), SELF, platform())
    with pytest.raises(MalformedError):
        key_dependencies(
            request(KeyName.REPORT), SELF, Platform(cpu_svn=CpuSvn(b""), owner_epoch=bytes(16), seal_fuses=bytes(16))
        )


def test_every_field_of_the_key_request_lies_where_the_manual_says() -> None:
    asked = request(KeyName.SEAL, FULL_POLICY)
    raw = asked.build()
    assert len(raw) == 512
    assert raw[:8] == bytes([4, 0, 0x3B, 0, 2, 0, 0xFF, 0])
    assert raw[8:24] == CPU_SVN
    assert raw[24:40] == b"\xff" * 16
    assert raw[40:72] == b"k" * 32
    assert raw[72:78] == b"\xff\xff\xff\xff\x04\x00"
    assert KeyRequest.parse(raw) == asked


@pytest.mark.parametrize("offset", [7, 78, 511])
def test_refuses_a_key_request_with_a_reserved_byte_set(offset: int) -> None:
    raw = bytearray(request(KeyName.SEAL).build())
    raw[offset] = 1
    with pytest.raises(MalformedError) as error:
        KeyRequest.parse(bytes(raw))
    assert error.value.code == "sgx.keyrequest.reserved"
