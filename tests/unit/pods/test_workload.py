import pytest

from bastide.errors import MalformedError
from bastide.pods.manifest import read_documents
from bastide.pods.workload import MAX_REPLICAS, Workload, embedded_asks, passed_over, workloads

TEMPLATE = "{metadata: {labels: {app: a}}, spec: {containers: [{name: main}]}}"
POD = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "main"}]}}


def found(manifest: str) -> tuple[Workload, ...]:
    return tuple(
        workload for document in read_documents(manifest.encode(), "w.yaml") for workload in workloads(document)
    )


def the(manifest: str) -> Workload:
    (workload,) = found(manifest)
    return workload


def refusal(manifest: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        found(manifest)
    return caught.value


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("apps/v1", "Deployment"),
        ("extensions/v1beta1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("v1", "ReplicationController"),
    ],
)
def test_finds_the_pod_in_every_kind_with_a_template(api_version: str, kind: str) -> None:
    workload = the(
        f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\nspec:\n  template: {TEMPLATE}\n"
    )

    assert (workload.kind, workload.name, workload.namespace) == (kind, "a", "b")
    assert workload.pod == POD
    assert workload.replicas == 1
    assert workload.document.line_of((*workload.pod_path, "spec", "containers", 0)) == 5


def test_finds_the_pod_of_a_pod_a_cron_job_and_a_pod_template() -> None:
    pod = the("apiVersion: v1\nkind: Pod\nmetadata: {labels: {app: a}}\nspec: {containers: [{name: main}]}")
    cron = the(f"apiVersion: batch/v1\nkind: CronJob\nspec: {{jobTemplate: {{spec: {{template: {TEMPLATE}}}}}}}")
    template = the(f"apiVersion: v1\nkind: PodTemplate\ntemplate: {TEMPLATE}")

    assert pod.pod == cron.pod == template.pod == POD
    assert (pod.replicas, cron.replicas, template.replicas) == (1, 1, 0)


def test_opens_lists_and_lists_in_lists() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: %s}}"
    inner = "{apiVersion: v1, kind: PodList, items: [%s]}" % (pod % "b")
    manifest = f"apiVersion: v1\nkind: List\nitems:\n- {pod % 'a'}\n- {inner}\n- {{apiVersion: v1, kind: Service}}\n"
    (document,) = read_documents(manifest.encode(), "w.yaml")

    assert [(workload.name, workload.pod_path) for workload in workloads(document)] == [
        ("a", ("items", 0)),
        ("b", ("items", 1, "items", 0)),
    ]
    assert [(other.kind, other.where) for other in passed_over(document)] == [("Service", "w.yaml:6")]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("v1", "Service"),
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("v1", "Deployment"),
        ("apps/v1", "Pod"),
        ("apps/v1", "SetList"),
    ],
)
def test_passes_over_and_names_kinds_that_make_no_pods(api_version: str, kind: str) -> None:
    (document,) = read_documents(f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}".encode(), "w.yaml")

    assert workloads(document) == ()
    assert [(other.kind, other.api_version, other.name) for other in passed_over(document)] == [
        (kind, api_version, "a")
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "replicas"),
    [
        ("apps/v1 Deployment", "replicas: 3", 3),
        ("apps/v1 Deployment", "replicas: 0", 0),
        ("apps/v1 DaemonSet", "replicas: 3", 1),
        ("batch/v1 Job", "parallelism: 4", 4),
        ("batch/v1 Job", "parallelism: 4, completions: 2", 2),
        ("batch/v1 Job", "completions: 8", 1),
        ("batch/v1 Job", "parallelism: 4, suspend: true", 0),
        ("batch/v1 CronJob", "suspend: false, jobTemplate: {spec: {parallelism: 5}}", 5),
        ("batch/v1 CronJob", "suspend: true, jobTemplate: {spec: {parallelism: 5}}", 0),
    ],
)
def test_counts_the_pods_that_run_at_once(kind: str, spec: str, replicas: int) -> None:
    api_version, name = kind.split()

    assert the(f"apiVersion: {api_version}\nkind: {name}\nspec: {{{spec}}}").replicas == replicas


@pytest.mark.parametrize("replicas", ["-1", "1.5", "'3'", "true", "[]", str(MAX_REPLICAS + 1)])
def test_refuses_a_count_that_is_no_number_of_pods(replicas: str) -> None:
    error = refusal(f"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: {replicas}\n")

    assert (error.code, error.where) == ("workload.replicas", "w.yaml:4")


@pytest.mark.parametrize("spec", ["[]", "text", "{template: []}", "{template: {spec: 1}}", "{template: {metadata: a}}"])
def test_refuses_a_workload_whose_pod_is_no_mapping(spec: str) -> None:
    error = refusal(f"apiVersion: apps/v1\nkind: Deployment\nspec: {spec}\n")

    assert (error.code, error.where) == ("workload.shape", "w.yaml:3")


def test_gives_an_empty_pod_where_a_workload_has_none() -> None:
    workload = the("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: {NAME}}\nspec:\n")

    assert workload.pod == {"metadata": {}, "spec": {}}
    assert workload.name == ""


CUSTOM = """
apiVersion: example.com/v1
kind: Thing
spec:
  parts:
  - resources:
      limits: {sgx.intel.com/epc: 10Mi, cpu: 1}
      requests: {kubernetes.azure.com/sgx_epc_mem_in_MiB: 10}
  sgx.intel.com/epc: 1
"""


def test_finds_asks_inside_custom_resources() -> None:
    (document,) = read_documents(CUSTOM.encode(), "w.yaml")

    assert [(ask.path, ask.resource, ask.quantity) for ask in embedded_asks(document)] == [
        (("spec", "parts", 0, "resources", "limits"), "sgx.intel.com/epc", "10Mi"),
        (("spec", "parts", 0, "resources", "requests"), "kubernetes.azure.com/sgx_epc_mem_in_MiB", 10),
    ]


def test_asks_of_workloads_are_not_embedded() -> None:
    pod = "{apiVersion: v1, kind: Pod, spec: {containers: [{resources: {limits: {sgx.intel.com/epc: 1Mi}}}]}}"
    custom = "{apiVersion: e.com/v1, kind: Thing, limits: {sgx.intel.com/epc: 1Mi}}"
    (document,) = read_documents(f"{{apiVersion: v1, kind: List, items: [{pod}, {custom}]}}".encode(), "w.yaml")

    assert [ask.path for ask in embedded_asks(document)] == [("items", 1, "limits")]


def test_items_of_a_typed_list_take_kind_and_version_from_it() -> None:
    limits = '{limits: {"sgx.intel.com/provision": 1}}'
    pod = f"{{metadata: {{name: a}}, spec: {{containers: [{{name: main, resources: {limits}}}]}}}}"
    (document,) = read_documents(f"apiVersion: v1\nkind: PodList\nitems: [{pod}]".encode(), "w.yaml")

    assert [(workload.kind, workload.name) for workload in workloads(document)] == [("Pod", "a")]
    assert passed_over(document) == ()
    assert embedded_asks(document) == ()


def test_items_of_a_typed_list_may_say_another_kind_themselves() -> None:
    items = "[{kind: Job, apiVersion: batch/v1}, {kind: Service}]"
    (document,) = read_documents(f"apiVersion: v1\nkind: PodList\nitems: {items}".encode(), "w.yaml")

    assert [workload.kind for workload in workloads(document)] == ["Job"]
    assert [(other.kind, other.api_version) for other in passed_over(document)] == [("Service", "v1")]


def test_items_of_a_plain_list_without_kind_are_no_workloads() -> None:
    (document,) = read_documents(b"apiVersion: v1\nkind: List\nitems: [{metadata: {name: a}}]", "w.yaml")

    assert workloads(document) == ()
    assert [(other.kind, other.name) for other in passed_over(document)] == [("", "a")]
