"""The box of the chart's tests before the chart: Services by name, and images from a registry."""

from e2e.charted import ChartCluster
from e2e.cluster import busybox_pod
from e2e.config import REGISTRY

# Busybox's wget asks glibc for names, and dies of it where it is static; its nslookup and nc do without.
ASK = """
set -e
until address=$(nslookup page.default.svc.cluster.local | sed -n '/^Name/,$ s/^Address: //p' | grep .); do sleep 1; done
printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 "$address" 80
"""


def test_pods_reach_services_by_name_and_pull_images_from_the_registry(chart_cluster: ChartCluster) -> None:
    digest = chart_cluster.registry.push_busybox("team/page:1", {"page/index.html": b"from the registry\n"})
    server = busybox_pod("page", "exec httpd -f -p 8080 -h /page")
    server["metadata"]["labels"] = {"app": "page"}
    server["spec"]["containers"][0] |= {"image": f"{REGISTRY}/team/page:1", "imagePullPolicy": "Always"}
    chart_cluster.create_pod(server)
    service = {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]}
    services = "/api/v1/namespaces/default/services"
    chart_cluster.api.create(services, {"metadata": {"name": "page"}, "spec": service})
    assert digest in chart_cluster.running("page")["status"]["containerStatuses"][0]["imageID"]
    chart_cluster.create_pod(busybox_pod("reader", ASK))
    chart_cluster.in_phase("reader", "Succeeded")
    assert chart_cluster.log("reader").endswith("\nfrom the registry\n")
    chart_cluster.api.delete(f"{services}/page")
    chart_cluster.remove_all_pods()
