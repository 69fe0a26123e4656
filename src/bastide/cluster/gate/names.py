"""Names by which admission, controller and tests know the signer gate."""

from typing import Final

SCHEDULING_GATE: Final = "bastide.dev/enclave-inspection"
"""Keeps a pod from being scheduled until its images were looked into. Only the controller may take it off."""

GATE_ANNOTATION: Final = "bastide.dev/gate"
"""On pods: mode and verdict of the signer gate, in words."""
