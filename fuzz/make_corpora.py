"""Seed corpora of the quote verification targets, made from self-made values: ``python fuzz/make_corpora.py FOLDER``.

Writes ``FOLDER/<target>/<seed>`` for every target named below. Nothing real is in it: platforms, keys and documents
are the simulation's.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bastide.sgx.certification import PlatformIdentification
from bastide.sgx.types import CpuSvn, Svn
from bastide.sim.intel import platform
from support.quotes import TEE_TCB_SVN, good_world, td_world
from support.sgx_values import later_quote, quote, report_body, td_report, td_report15_ex


def seeds() -> dict[str, dict[str, bytes]]:
    """Seeds by target and name."""
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


def write(folder: Path, corpora: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write the seeds; what lies there already stays."""
    for target, corpus in corpora.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, seed in corpus.items():
            (folder / target / name).write_bytes(seed)


if __name__ == "__main__":
    write(Path(sys.argv[1]), seeds())
