"""Seed corpora of the targets that read bytes, made from self-made values: ``python fuzz/make_corpora.py FOLDER``.

Writes ``FOLDER/<target>/<seed>`` for every target named below. Nothing real is in it: platforms, keys and documents
are the simulation's.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bastide.enclave.statement import EnclaveClaim, Statement, sign_statement
from bastide.sgx.certification import PlatformIdentification
from bastide.sgx.types import CpuSvn, MrSigner, Svn
from bastide.sim.intel import platform
from support.enclave_files import (
    PAGE,
    REG_RW,
    REG_RX,
    SEGMENTS,
    TABLE,
    THREAD,
    Blob,
    Elf,
    OeFile,
    PlainMeasurer,
    Repeat,
    Sec,
    intel_enclave,
    note,
    signed_intel_enclave,
)
from support.gramine_files import LIBPAL, manifest_text, signature
from support.images import Member, docker_save, layout, packed, tar
from support.quotes import TEE_TCB_SVN, good_world, td_world
from support.sgx_values import later_quote, quote, report_body, sigstruct, td_report, td_report15_ex

STATEMENT_KEY = ec.derive_private_key(20261123, ec.SECP256R1())
"""A key that anybody can make: of fuzz targets alone."""

_SIGNED = sigstruct()
_STATEMENT = Statement(
    repository="registry.example/payments/api",
    image_digest=f"sha256:{'ab' * 32}",
    enclaves=(
        EnclaveClaim(
            path="/app/e.so",
            kind="intel-sdk",
            mr_enclave=_SIGNED.enclave_hash,
            mr_signer=MrSigner(bytes(32)),  # the same in each run, as all of it must be
            product_id=1,
            svn=Svn(3),
            attributes=_SIGNED.attributes,
            attribute_mask=_SIGNED.attribute_mask,
        ),
    ),
)
SIGNED_STATEMENT = sign_statement(_STATEMENT, STATEMENT_KEY)


def seeds() -> dict[str, dict[str, bytes]]:
    """Seeds by target and name."""
    return {**_quote_seeds(), **_enclave_seeds(), **_policy_seeds()}


def _policy_seeds() -> dict[str, dict[str, bytes]]:
    pem = STATEMENT_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    head = "apiVersion: bastide.dev/v1alpha1\nkind: SignersPolicy\nspec:\n"
    rule = f'  - name: mine\n    mrEnclave: "{_SIGNED.enclave_hash.hex()}"\n    minimumSvn: 1\n    debug: forbid-mask\n'
    key = f"    - name: release\n      publicKey: |\n        {pem.strip().replace(chr(10), chr(10) + ' ' * 8)}\n"
    statements = f"  statements:\n  - repository: registry.example/payments/*\n    keys:\n{key}"
    deny = f'  deny:\n    mrEnclaves: ["{_SIGNED.enclave_hash.hex()}"]\n'
    return {
        "fuzz_statement": {"envelope": SIGNED_STATEMENT, "statement": _STATEMENT.build()},
        "fuzz_signers": {
            "allow": f"{head}  allow:\n{rule}".encode(),
            "all": f"{head}  debug: allow\n  measurement: when-possible\n  allow:\n{rule}{deny}{statements}".encode(),
        },
    }


def _quote_seeds() -> dict[str, dict[str, bytes]]:
    enclave, td = good_world(), td_world(current=TEE_TCB_SVN)
    by_ppid = PlatformIdentification(
        type=1, ppid=bytes(16), cpu_svn=CpuSvn(bytes(16)), pce_svn=Svn(1), pce_id=bytes(2)
    ).build()
    return {
        "fuzz_quote": {
            "sgx3": enclave.quote.build(),
            "sgx3_ppid": replace(quote(), certification=by_ppid).build(),
            "sgx4": replace(enclave, version=4).quote.build(),
            "sgx5": later_quote(5, report_body()).build(),
            "tdx4": td_world().quote.build(),
            "tdx4_filler": later_quote(4, td_report()).build(),
            "tdx5": td.quote.build() + bytes(70),
            "tdx5_extended": later_quote(5, td_report15_ex()).build(),
        },
        "fuzz_pck_extension": {
            "platform_ca": platform().build(),
            "processor_ca": platform(platform_ca=False).build(),
            "large_svns": platform(components=(255, 128, *(127,) * 14), pce_svn=65535).build(),
        },
        "fuzz_tcb_info": {
            "sgx": enclave.collateral.tcb_info,
            "tdx": td.collateral.tcb_info,
            "signature_only": b'{"tcbInfo":{},"signature":"00"}',
        },
        "fuzz_qe_identity": {"qe": enclave.collateral.qe_identity, "td_qe": td.collateral.qe_identity},
        "fuzz_crl": {
            "pck": enclave.collateral.pck_crl,
            "root": enclave.collateral.root_ca_crl,
            "hex": enclave.collateral.pck_crl.hex().encode(),
            "revoking": replace(enclave, pck_crl=replace(enclave.pck_crl, revoked=(1, 2**150))).collateral.pck_crl,
        },
    }


def _enclave_seeds() -> dict[str, dict[str, bytes]]:
    member = Member("app/e.so", signed_intel_enclave())
    links = (Member("lib", symlink="../usr"), Member("lib/a", b"x" * 600), Member("b", hard_link="lib/a"))
    root = tar(member, *links, Member("d/"), Member("d/.wh..wh..opq"), Member(".wh.b"), Member("n" * 200, b"x"))
    two = [root, tar(Member("app/.wh.e.so"))]
    return {
        "fuzz_elf": {
            "intel": signed_intel_enclave(),
            "open_enclave": OeFile(sigstruct=sigstruct()).build(),
            "text": Elf(segments=SEGMENTS, sections=(Sec(name=".rela.dyn", type=4, data=bytes(48)),)).build(),
        },
        "fuzz_intel_metadata": {
            "one": note([Blob(sigstruct=sigstruct(), patches=((0x40, b"patch"),)).build()]),
            "three": note([Blob(version=version).build() for version in ((1, 3), (2, 1), (3, 1))]),
            "elrange": note([Blob(version=(12, 1), elrange=(PAGE, 0, 0x100000)).build()]),
            "group": note([Blob(table=(*TABLE, Repeat(entries=len(THREAD), times=2, step=0x10000))).build()]),
        },
        "fuzz_open_enclave": {
            "signed": OeFile(sigstruct=sigstruct()).build(),
            "large": OeFile(heap=1000, stack=5, threads=3).build(),
        },
        "fuzz_sgxs": {
            "pages": bytes(PlainMeasurer(1 << 20).pages(0, REG_RX, b"x").bare(0x4000, REG_RW, 3).stream),
            "many": bytes(PlainMeasurer(1 << 20).pages(0, REG_RX, b"x" * 9 * PAGE).stream),
        },
        "fuzz_gramine_manifest": {
            "small": b'[sgx]\nenclave_size = "16M"\nmax_threads = 2\nedmm_enable = true\n',
            "triple": b"\0".join((manifest_text(edmm=True), signature(manifest_text(edmm=True), edmm=True) + LIBPAL)),
            "files": b'sgx.enclave_size = "1G"\n[[sgx.trusted_files]]\nuri = "file:/a"\nsha256 = "00"\n',
        },
        "fuzz_image": {
            "root": root,
            "root_gzip": packed(root, "gzip"),
            "root_zstd": packed(root, "zstd"),
            "oci": layout(two).archive(),
            "oci_zstd": layout(two, compression="zstd").archive(),
            "docker": docker_save(two),
        },
        "fuzz_sigstruct": {"one": sigstruct().build(), "unsigned": intel_enclave()[-1808:]},
    }


def write(folder: Path, corpora: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write the seeds; what lies there already stays."""
    for target, corpus in corpora.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, seed in corpus.items():
            (folder / target / name).write_bytes(seed)


if __name__ == "__main__":
    write(Path(sys.argv[1]), seeds())
