from bastide.pods.lint_volumes import undefined_volumes
from support.pods import container, pod


def test_a_mount_without_its_volume_is_refused_and_names_those_that_are_there() -> None:
    tree = pod(container(volumeMounts=[{"name": "data", "mountPath": "/d"}]), volumes=[{"name": "other"}])
    (finding,) = undefined_volumes(tree)
    assert finding.code == "mount.undefined-volume"
    assert finding.severity == "refuse"
    assert finding.path == ("spec", "containers", 0, "volumeMounts", 0, "name")
    assert "'data'" in finding.message
    assert "other" in finding.message


def test_init_containers_and_block_devices_are_looked_at() -> None:
    tree = pod(container(), initContainers=[container(volumeDevices=[{"name": "disk", "devicePath": "/dev/x"}])])
    (finding,) = undefined_volumes(tree)
    assert finding.path == ("spec", "initContainers", 0, "volumeDevices", 0, "name")


def test_volumes_of_the_pod_and_claims_of_its_controller_count() -> None:
    tree = pod(container(volumeMounts=[{"name": "a"}, {"name": "b"}]), volumes=[{"name": "a"}])
    assert list(undefined_volumes(tree, ("b",))) == []
