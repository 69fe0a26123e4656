"""The root and the collateral of a lab, for an attestation service that trusts it. SIMULATION."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bastide.attest.collateral.directory import PARTS
from bastide.attest.server import CollateralService
from bastide.errors import ConfigError
from bastide.pki.chain import TrustAnchor
from bastide.sim import intel
from bastide.sim.platform import enclave_signing_key, make_collateral, mr_signer_of
from bastide.sim.state import LabState

_QUOTING_ENCLAVE = "quoting-enclave"
_BEFORE = timedelta(hours=1)


def lab_trust(
    state_folder: Path, collateral: Path | CollateralService | None, data: Path
) -> tuple[TrustAnchor, Path | CollateralService]:
    """The lab's root and its collateral: the one given, or a directory made here for all platforms of the lab.

    Raises:
        ConfigError: ``attest.simulation.state``: no lab has left its state there.
    """
    state = LabState(state_folder)
    known = state.below("pki/")
    if not known:
        raise ConfigError(
            "attest.simulation.state",
            "expected the state of a lab, with its make-believe PKI",
            hint="bastide lab run --state DIR ... makes one",
            where=str(state_folder),
        )
    pki = intel.Pki.from_state(known)
    if collateral is not None:
        return pki.trust_anchor, collateral
    now = datetime.now(UTC).replace(microsecond=0)
    signer = mr_signer_of(enclave_signing_key(state, _QUOTING_ENCLAVE))
    pck = intel.issue_pck(pki, ec.generate_private_key(ec.SECP256R1()).public_key(), intel.platform(), now - _BEFORE)
    made = make_collateral(pki, (pck,), qe_signer=signer, now=now, faults=frozenset())
    folder = data / "simulation-collateral" / "lab"
    for one in (data, folder.parent, folder):  # mkdir gives the mode to the last of a path only
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part, names in PARTS.items():
        (folder / names[0]).write_bytes(getattr(made, part))
    return pki.trust_anchor, folder.parent
