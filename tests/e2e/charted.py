"""A cluster into which the chart is installed: Services, DNS and a registry beside what `cluster` has."""

from pathlib import Path
from typing import Any

import yaml

from e2e import config
from e2e.api import eventually
from e2e.box import Box, Part
from e2e.cluster import EPC_BYTES, Cluster, collection_of
from e2e.images import layer_of, write_image
from e2e.registry import Registry

DNS = "localhost/e2e-coredns:1"
VOLUMES = 3
_HERE = Path(__file__).parent
_DESCRIBE = f"""
set -eu
put() {{ mount --bind "$1" "$2"; }}
mkdir described
sed 's/^flags.*/& sgx sgx_lc/' /proc/cpuinfo >described/cpuinfo
put described/cpuinfo /proc/cpuinfo
echo 6.8.0-e2e >described/osrelease
put described/osrelease /proc/sys/kernel/osrelease
# Another machine's than this one's: nobody asks this CPU about SGX then.
cat /proc/sys/kernel/random/uuid >described/boot_id
put described/boot_id /proc/sys/kernel/random/boot_id
cp -a /sys/class/misc described/misc
mkdir described/misc/sgx_enclave described/misc/sgx_provision
put described/misc /sys/class/misc
cp -a /sys/devices/system/node/node0 described/node0 2>described/not-readable || true
mkdir -p described/node0/x86
echo {EPC_BYTES} >described/node0/x86/sgx_total_bytes
put described/node0 /sys/devices/system/node/node0
# The EPC that the kernel would account by container, where cgroups are of both versions: nobody uses this tree here.
if [ -d /sys/fs/cgroup/unified ]; then
  mkdir described/cgroup
  echo sgx_epc {EPC_BYTES} >described/cgroup/misc.capacity
  echo sgx_epc 0 >described/cgroup/misc.current
  put described/cgroup /sys/fs/cgroup/unified
fi
"""


class ChartCluster(Cluster):
    """The cluster without an agent of ours; the chart brings one.

    The node is described in the box's own /proc and /sys, because the chart mounts those into the agent.
    """

    def __init__(self, box: Box, python: Path) -> None:
        super().__init__(box, python)
        self.proxy = box.part("kube-proxy", *config.proxy(self._folder))
        self.registry = Registry(box)

    def start(self) -> None:
        """Start everything, Services, DNS and the registry too."""
        super().start()
        self.proxy.start()
        self.registry.start()
        archive = self.box.folder / "images" / "coredns.tar"
        program = {"coredns": (self.box.binaries / "coredns").read_bytes()}
        self.import_image(write_image(archive, DNS, layer_of(program), ["/coredns"]))
        for one in yaml.safe_load_all((_HERE / "coredns.yaml").read_text()):
            self.api.create(collection_of(one), one)
        eventually(self._require_dns)
        for number in range(VOLUMES):
            self._offer_volume(f"volume-{number}")

    def holds_epc(self, pod: dict[str, Any], amount: int) -> None:
        """Let the kernel say that a pod holds this much EPC, in bytes."""
        folder = self.box.folder / "described" / "cgroup" / "kubepods" / f"pod{pod['metadata']['uid']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "misc.current").write_text(f"sgx_epc {amount}\n")

    @property
    def accounts_epc(self) -> bool:
        """Whether the box can say what pods hold."""
        return (self.box.folder / "described" / "cgroup").is_dir()

    def helm(self, *arguments: str, timeout: float = 600) -> str:
        """What the real helm prints, run in the box as administrator."""
        return self.box.run("helm", "--kubeconfig", self.kubeconfig, *arguments, timeout=timeout)

    def _offer_volume(self, name: str) -> None:
        """A folder as a volume for whoever claims one of no class; each is claimed once."""
        folder = self.box.folder / name
        folder.mkdir()
        folder.chmod(0o777)  # the kubelet gives such a folder to no group
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(folder)}}
        self.api.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})

    def _describe(self) -> None:
        super()._describe()
        self.box.run("sh", "-c", f"cd {self.box.folder}\n{_DESCRIBE}")

    def _admit_agent(self) -> None:
        """The chart does."""

    def _watched(self) -> tuple[Part, ...]:
        return (*self._parts, self.proxy, self.registry.part)

    def _require_dns(self) -> None:
        status = self.api.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")["status"]
        assert status.get("readyReplicas") == 1, status
