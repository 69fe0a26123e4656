"""What the external metrics API says: discovery, values, refusals. Pure.

Source: Kubernetes docs, "Kubernetes API Concepts" (discovery, aggregated discovery); k8s.io/metrics
external.metrics.k8s.io/v1beta1; Kubernetes API conventions, "Response Status Kind".
"""

import math
from datetime import UTC, datetime
from fractions import Fraction
from http import HTTPStatus
from typing import Final

from bastide.cluster.metrics.question import Metric
from bastide.kube.client import Tree

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""Media type of discovery in one piece."""

_GROUP_VERSION: Final = f"{GROUP}/{VERSION}"
_KIND: Final = "ExternalMetricValueList"
_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowed",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
}


def groups() -> Tree:
    """``/apis``: the groups that there are."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def group() -> Tree:
    """``/apis/GROUP``."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group()}


def resources() -> Tree:
    """``/apis/GROUP/VERSION``: the metrics that there are."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": _GROUP_VERSION,
        "resources": [
            {"name": str(metric), "singularName": "", "namespaced": True, "kind": _KIND, "verbs": ["get"]}
            for metric in Metric
        ],
    }


def aggregated() -> Tree:
    """``/apis`` for those who take ``AGGREGATED``."""
    kind = {"group": GROUP, "version": VERSION, "kind": _KIND}
    found = [
        {
            "resource": str(metric),
            "responseKind": kind,
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": ["get"],
        }
        for metric in Metric
    ]
    versions = [{"version": VERSION, "resources": found, "freshness": "Current"}]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": versions}],
    }


def values(metric: Metric, value: Fraction | None, now: datetime) -> Tree:
    """The value of a metric; a list without items where it is not known, which autoscalers take for an error."""
    timestamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = {"metricName": str(metric), "metricLabels": {}, "timestamp": timestamp}
    items = [] if value is None else [{**item, "value": quantity(value)}]
    return {"kind": _KIND, "apiVersion": _GROUP_VERSION, "metadata": {}, "items": items}


def quantity(value: Fraction) -> str:
    """A value as a quantity in whole units, or in thousandths, rounded up."""
    return str(value.numerator) if value.denominator == 1 else f"{math.ceil(value * 1000)}m"


def refusal(status: HTTPStatus, message: str) -> Tree:
    """A Status that says no."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message[:1000],
        "reason": _REASONS[status],
        "code": int(status),
    }


def _group() -> Tree:
    version = {"groupVersion": _GROUP_VERSION, "version": VERSION}
    return {"name": GROUP, "versions": [version], "preferredVersion": version}
