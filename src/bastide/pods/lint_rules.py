"""What each finding's code means, for reports that list rules (SARIF): a title, and why it matters and what to do.

The message of a finding says what was seen; the words here hold for every finding of the code.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One code.

    Attributes:
        code: as findings carry it.
        title: one short sentence.
        help: why it matters and what to do.
    """

    code: str
    title: str
    help: str


_TOLD: Final = {
    "container.duplicate-name": (
        "Two containers of a pod have one name",
        "Kubernetes refuses it; devices and quote providers go by the name. Give each container its own.",
    ),
    "container.privileged": (
        "A privileged container opens every SGX device",
        "It reaches the provision device too, without asking. Drop privileged: sgx.intel.com/epc brings the devices.",
    ),
    "device.quantity": (
        "A number of devices cannot be read",
        "Devices are asked in whole numbers. Write for example 1.",
    ),
    "enclave.device-count": (
        "An enclave device is asked by a name that counts no EPC",
        "The scheduler cannot count what the enclave takes. Ask for sgx.intel.com/epc with the enclave's size.",
    ),
    "enclave.without-epc": (
        "An enclave device is asked without EPC",
        "What the enclave uses is taken from other pods unseen. Ask for sgx.intel.com/epc with the enclave's size.",
    ),
    "epc.above-enclave": (
        "Far more EPC is asked than the image's enclaves take",
        "No other pod can use the rest. Ask for what `bastide enclave size` says, times the processes.",
    ),
    "epc.below-enclave": (
        "Less EPC is asked than the image's enclave takes",
        "It takes the rest from its neighbours, and all of them page. Ask for what `bastide enclave size` says.",
    ),
    "epc.dialects-differ": (
        "Different amounts of EPC are asked by different names",
        "Which one counts depends on the cluster. Keep sgx.intel.com/epc only.",
    ),
    "epc.exceeds-classes": (
        "No declared node class has that much EPC",
        "The pod would wait for ever. Ask for less, split the pod, or declare a larger class in the policy.",
    ),
    "epc.exceeds-present": (
        "No node that runs now has that much EPC",
        "The pod waits until a larger node joins. Check that its pool can scale up.",
    ),
    "epc.quantity": (
        "An amount of EPC cannot be read",
        'Extended resources are whole numbers with an optional suffix, for example "10Mi".',
    ),
    "epc.resource": ("A name counts no EPC", "Ask for sgx.intel.com/epc."),
    "epc.too-small": (
        "The EPC that is asked holds no enclave",
        "An enclave of any SDK takes at least 64 KiB. Ask for its size.",
    ),
    "epc.unit-slip": (
        "An amount of EPC is written in the unit of another name",
        (
            "sgx.intel.com/epc counts bytes, Azure's and Alibaba's names count MiB, intel.com/sgx counts 4 KiB pages."
            " Moving from one to the other, 10 becomes 10Mi. `--fix` renames and converts what is right as it stands."
        ),
    ),
    "hostpath.aesmd": (
        "The quoting daemon's folder is mounted by hostPath",
        (
            "Admission takes volume and mounts away and asks for bastide.dev/quote, for which the node agent mounts the"
            " folder. The annotation sgx.intel.com/quote-provider: aesmd says the same in one line."
        ),
    ),
    "hostpath.dot-dot": (
        "A hostPath contains '..'",
        "Over a link it leads anywhere, and Kubernetes refuses it. Write the path without '..'.",
    ),
    "hostpath.guarded": (
        "A hostPath leads to SGX devices or to the quoting daemon",
        (
            "It reaches SGX past every check, and nobody counts it. Ask for sgx.intel.com/epc; for quotes annotate it"
            " sgx.intel.com/quote-provider: aesmd. The node agent brings devices and socket."
        ),
    ),
    "hostpath.plugin-folder": (
        "A hostPath reaches the kubelet's device plugin folder",
        "The pod can hand out any device of its node. Leave this to the node's own equipment.",
    ),
    "hpa.foreign-metric": (
        "An autoscaler follows a metric about SGX that Bastide does not serve",
        "Where nothing else serves it, the autoscaler never scales. Use a metric of `bastide cluster metrics`.",
    ),
    "hpa.resource-epc": (
        "An autoscaler follows EPC as a Resource metric",
        "Kubernetes measures cpu and memory only. Use an External metric of `bastide cluster metrics`, or KEDA.",
    ),
    "hpa.target-type": (
        "An autoscaler takes a sum over pods for one value",
        "With a target of type Value the metric grows with the replicas. Use AverageValue.",
    ),
    "image.digest": ("An image digest is malformed", "Write name@sha256:<64 hex digits>."),
    "image.missing": ("A container names no image", "Write image: registry/name@sha256:<64 hex digits>."),
    "image.mutable-tag": (
        "An image is named by a tag",
        "Its owner can move the tag to other content, and so can whoever has the registry. Name it by digest.",
    ),
    "image.placeholder": (
        "An image is an unfilled placeholder",
        "Render the template (helm template, envsubst) and lint the result.",
    ),
    "image.public-without-secret": (
        "An image of a public registry is pulled without a pull secret",
        "Anonymous pulls are limited, and nodes share the limit. Add imagePullSecrets, or mirror the image.",
    ),
    "image.space": ("An image reference contains white space", "Often a slip such as `name: 1.0`. Write name:1.0."),
    "image.syntax": ("An image reference cannot be read", "Write registry/name:tag or registry/name@sha256:..."),
    "image.tag": ("An image tag is malformed", "Tags are up to 128 letters, digits and . _ -"),
    "limitrange.sgx": (
        "A LimitRange names SGX",
        (
            "It holds for every container of its namespace, those without SGX too, and its names are not rewritten with"
            " those of pods. Bound EPC with a ResourceQuota on requests.sgx.intel.com/epc."
        ),
    ),
    "mount.undefined-volume": (
        "A volume is mounted and not defined",
        "The API server refuses the pod. Define the volume, or remove the mount.",
    ),
    "namespace.exempt": (
        "The admission policy leaves this namespace alone",
        "Pods of exempt namespaces are the node's own equipment: they are not judged and not changed.",
    ),
    "object.not-judged": (
        "SGX is asked for outside of a workload",
        (
            "Custom resources, Helm values and patches become pods by rules of others. Lint what they are rendered to:"
            " helm template ... | bastide cluster lint -"
        ),
    ),
    "os.windows": ("SGX is asked for on Windows", "SGX devices are offered on Linux nodes only. Use a Linux image."),
    "pod.depth": ("A pod is nested too deep", "No Kubernetes object is. Flatten it."),
    "pod.no-container": (
        "A pod has no container",
        "Write containers (not container). Of a kustomize patch give the output of kustomize build.",
    ),
    "pod.shape": ("A field has the wrong type", "See `kubectl explain pod.spec`."),
    "process.guess": (
        "An image that seems to be of a single-process enabler is started by a shell",
        (
            "A guess from the image's name. Enablers treat child processes differently: with Gramine and SCONE each is"
            " a further enclave, in Occlum fork fails, EGo has one process. Start the program itself."
        ),
    ),
    "process.in-enclave": (
        "A program that starts others runs inside of an enclave",
        (
            "Enablers treat child processes differently: with Gramine and SCONE each is a further enclave of full size,"
            " in Occlum fork fails, EGo has one process. Start the program itself, or count EPC for every process."
        ),
    ),
    "process.in-image": (
        "An image that holds an enclave is started by a shell",
        "Enablers treat child processes differently. Start the program itself, or count EPC for every process.",
    ),
    "provision.denied": (
        "The provision device is asked for and not allowed",
        (
            "With it an enclave reads an identifier of the machine that outlives owners. The admission policy says who"
            " may have it; for quotes the annotation sgx.intel.com/quote-provider: aesmd needs no such device."
        ),
    ),
    "quote-provider.missing": (
        "SGX_AESM_ADDR is set, and nothing brings the socket",
        "Quotes out of process take the socket of AESM. Annotate the pod sgx.intel.com/quote-provider: aesmd.",
    ),
    "quote-provider.no-enclave": (
        "The quote-provider annotation has no effect",
        "No container that it concerns asks for EPC. Ask for it, or drop the annotation.",
    ),
    "quota.dialect": (
        "A ResourceQuota names EPC by an old name",
        "Pods are counted by requests.sgx.intel.com/epc: admission adds that entry. Write it yourself, in bytes.",
    ),
    "quota.not-counted": (
        "A ResourceQuota has an entry for SGX that counts nothing",
        "Kubernetes counts extended resources as requests.NAME only. Write requests.sgx.intel.com/epc.",
    ),
    "quote-provider.unknown": (
        "The quote-provider annotation names no container",
        "Its value is the name of a container of the pod, or aesmd.",
    ),
    "resource.dialect": (
        "SGX is asked for by a name of another plugin",
        "Admission rewrites it to the canonical name; `--fix` does so in the file.",
    ),
    "resource.not-offered": (
        "A resource of Intel's plugin that Bastide does not offer",
        "The pod stays Pending where that plugin does not run. Leave quoting and registration to the node agent.",
    ),
    "resources.ephemeral": ("An ephemeral container asks for resources", "Kubernetes refuses it."),
    "resources.limits-differ": (
        "Limit and request of an SGX resource differ",
        "Kubernetes refuses it for extended resources. Write the limit only, or both the same.",
    ),
    "resources.misplaced": (
        "An SGX resource is asked at a place that Kubernetes does not read",
        "Nothing is asked at all. Move it to resources.limits of a container; check spelling and indentation.",
    ),
    "resources.pod-level": (
        "An SGX resource is asked for a pod as a whole",
        "Kubernetes takes cpu, memory and huge pages there. Ask in the container that runs the enclave.",
    ),
    "resources.unknown": (
        "A resource name looks like SGX and is none",
        "No node will ever offer it, so the pod waits for ever. Use sgx.intel.com/epc.",
    ),
    "selector.foreign-label": (
        "A node label of another installation is required",
        "Where nobody sets it the pod waits for ever. The EPC request alone finds SGX nodes.",
    ),
    "selector.sgx-without-ask": (
        "A pod without SGX is held on SGX nodes",
        "It takes the room of enclaves. Ask for sgx.intel.com/epc, or drop the label.",
    ),
    "toleration.foreign-key": (
        "A taint of another plugin is tolerated",
        "Bastide taints SGX nodes with sgx.intel.com/epc and adds the toleration at admission.",
    ),
    "toleration.without-ask": (
        "The SGX taint is tolerated by a pod without SGX",
        "It takes the room of enclaves. Remove the toleration unless the pod is the node's own equipment.",
    ),
    "volume-device.guarded": (
        "A block device is attached at an SGX path",
        "volumeDevices are for block volumes. Ask for sgx.intel.com/epc and the node agent brings the devices.",
    ),
}


def rule_of(code: str) -> Rule:
    """The rule of a code; one with general words where the code comes from elsewhere."""
    title, text = _TOLD.get(code, (f"Finding {code}", "See the message of the finding."))
    return Rule(code=code, title=title, help=text)


def rules() -> tuple[Rule, ...]:
    """All rules of findings about manifests, by code."""
    return tuple(rule_of(code) for code in sorted(_TOLD))
