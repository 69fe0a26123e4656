"""A small Kubernetes API client on the standard library: get, list, watch, patch.

``ClusterAccess`` (in a pod, or of a kubeconfig) -> ``ApiClient`` -> ``follow`` (list, watch, and list again when the
server says so). The HTTP and TLS of ``http.client`` run in threads; all reads are bounded.
"""
