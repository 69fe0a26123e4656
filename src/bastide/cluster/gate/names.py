"""Names that the parts of the cluster side write into objects and read there."""

from typing import Final

SCHEDULING_GATE: Final = "bastide.dev/enclave-inspection"
"""Keeps a pod from being scheduled until its images were looked into. Only the controller may take it off."""

INSPECTION_LABEL: Final = "bastide.dev/inspection"
"""On pods that run though ``enforce`` has objections, or nobody looked into their images yet: the controller is to tell
of them, and takes it off. Whoever may label pods can write it: it stands for work, and for no right."""

PENDING: Final = "pending"
"""The label's value."""

GATE_ANNOTATION: Final = "bastide.dev/gate"
"""On pods: mode and verdict of the signer gate, in words."""

CHANGED_ANNOTATION: Final = "bastide.dev/changed"
"""On pods and quotas: what admission changed, in words."""

SGX_NODES: Final = "bastide.dev/sgx-enabled=true"
"""Label selector of the nodes on which a node agent found SGX."""
