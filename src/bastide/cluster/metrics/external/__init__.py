"""The external metrics API of Kubernetes, served to the API server that aggregates it."""
