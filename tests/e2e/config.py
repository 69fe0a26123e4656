"""Settings of every part in the box: what differs from a default is here for a reason that is said."""

import json
import sys
from pathlib import Path

from e2e.certs import NODE_ADDRESS, NODE_NAME
from e2e.images import PAUSE

API_SERVER = f"https://{NODE_ADDRESS}:6443"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DNS_ADDRESS = "10.0.0.10"
REGISTRY = f"{NODE_ADDRESS}:5000"
_SERVICES = "10.0.0.0/24"
_POD_NETWORK = "10.77.0.0/24"
_CONFINE = (
    "mount -o remount,bind,ro / && "
    'exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"'
)
_ETCD = "http://127.0.0.1:2379"


def write_configuration(folder: Path, pki: Path, cgroup: str) -> None:
    """Write every file that the parts are started with into ``folder``."""
    folder.mkdir(parents=True)
    (folder / "cni").mkdir()
    (folder / "containerd.toml").write_text(_containerd(folder))
    plain = folder / "registries" / REGISTRY / "hosts.toml"
    plain.parent.mkdir(parents=True)
    plain.write_text(f'server = "http://{REGISTRY}"\n')
    _write_json(folder / "proxy.json", _proxy(folder))
    _write_json(folder / "cni" / "10-box.conflist", _pod_network())
    _write_json(folder / "kubelet.json", _kubelet(pki, cgroup))
    for user in ("admin", "scheduler", "controller-manager", "proxy", "kubelet"):
        credentials = {"client-certificate": f"{pki}/{user}.crt", "client-key": f"{pki}/{user}.key"}
        _write_json(folder / f"{user}.kubeconfig", _kubeconfig(pki, user, credentials))
    # The token beside it is made as soon as there is an API server to ask for one.
    _write_json(folder / "agent.kubeconfig", _kubeconfig(pki, "agent", {"tokenFile": "agent.token"}))


def etcd() -> tuple[str, ...]:
    """Etcd that does not wait for the disk: its data lives no longer than the box."""
    listen = ("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD)
    return ("etcd", "--data-dir", "/var/lib/etcd", *listen, "--unsafe-no-fsync=true", "--log-level=warn")


def apiserver(pki: Path) -> tuple[str, ...]:
    """The API server with admission, authorization and aggregation as kubeadm sets them up."""
    return (
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--service-cluster-ip-range={_SERVICES}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        "--enable-aggregator-routing=true",
        "--allow-privileged=true",
    )


def controller_manager(folder: Path, pki: Path) -> tuple[str, ...]:
    """The controllers: they make the pods of Jobs, clean up after nodes and remove start-up taints."""
    return (
        "kube-controller-manager",
        f"--kubeconfig={folder}/controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--horizontal-pod-autoscaler-sync-period=5s",
    )


def scheduler(folder: Path) -> tuple[str, ...]:
    """The scheduler as it comes."""
    address = ("--bind-address=127.0.0.1", "--leader-elect=false")
    return ("kube-scheduler", f"--kubeconfig={folder}/scheduler.kubeconfig", *address)


def kubelet(folder: Path) -> tuple[str, ...]:
    """The kubelet under its own names, /var/lib/kubelet included: they are the box's."""
    return (
        "kubelet",
        f"--config={folder}/kubelet.json",
        f"--kubeconfig={folder}/kubelet.kubeconfig",
        f"--node-ip={NODE_ADDRESS}",
        f"--hostname-override={NODE_NAME}",
    )


def proxy(folder: Path) -> tuple[str, ...]:
    """The addresses of Services, in the box's own iptables."""
    return ("kube-proxy", f"--config={folder}/proxy.json", f"--hostname-override={NODE_NAME}")


def containerd(folder: Path) -> tuple[str, ...]:
    """Containerd with its configuration."""
    return ("containerd", "--config", f"{folder}/containerd.toml")


def agent(folder: Path, root: Path) -> tuple[str, ...]:
    """Our agent as a container would run it: no capability, a read-only root, and the node's own root at ``root``."""
    confined = ("unshare", "-m", "--propagation", "slave", "sh", "-c", _CONFINE, "sh")
    access = ("--node-name", NODE_NAME, "--kubeconfig", f"{folder}/agent.kubeconfig")
    return (*confined, str(Path(sys.executable).with_name("bastide")), "node", "agent", *access, "--root", str(root))


def _kubelet(pki: Path, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet-server.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Virtual machines without CAP_SYS_RESOURCE can neither lower their OOM score nor raise the limit of files.
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "makeIPTablesUtilChains": False,
        "localStorageCapacityIsolation": False,
        "resolvConf": "",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "enforceNodeAllocatable": ["pods"],
        # The machine's disk may be nearly full: no reason to evict anything here.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        # More than there are devices: tests may use them all up beside the pods that other things need.
        "maxPods": 120,
        # Often, so that tests wait less, and the node's heartbeat tells a fresh status from an old one.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "1s",
        "syncFrequency": "5s",
    }


def _proxy(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{folder}/proxy.kubeconfig"},
        "mode": "iptables",
        "clusterCIDR": _POD_NETWORK,
        "bindAddressHardFail": False,
        # Limits of connection tracking are the whole machine's and cannot be written in the box.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _kubeconfig(pki: Path, user: str, credentials: dict[str, str]) -> dict[str, object]:
    cluster = {"server": API_SERVER, "certificate-authority": f"{pki}/ca.crt"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "box", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "box", "context": {"cluster": "box", "user": user}}],
        "current-context": "box",
    }


def _pod_network() -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": _POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni-addresses",  # gone with a reboot, as the pods' networks are
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": True, "ipam": addresses}
    return {
        "cniVersion": "1.0.0",
        "name": "box",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd(folder: Path) -> str:
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{folder}/registries"
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE no pod would start otherwise.
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  # Containers that do not run as root can open devices of root's: what docs tell owners of nodes to set.
  device_ownership_from_security_context = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "/usr/sbin/runc"
      Root = "/run/runc"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
"""


def _write_json(file: Path, value: dict[str, object]) -> None:
    file.write_text(json.dumps(value, indent=2))
