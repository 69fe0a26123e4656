"""schemathesis sends what the OpenAPI document allows, and what it does not, to the served application."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bastide.attest.http import routes_attest, routes_certificates, routes_metadata, routes_policy
from bastide.attest.http.openapi import document
from bastide.attest.tenants import Kind
from support.attest_server import Served, admin_token, options, served, tenant_file

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("openapi")
    with served(options(folder, tenants={"default": tenant_file(folder, "default")})) as running:
        yield running


schema = schemathesis.openapi.from_dict(document("https://127.0.0.1/simulation", "test"))


@schema.parametrize()
@settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_service_or_the_schema(case: schemathesis.Case, server: Served) -> None:
    response = case.call(
        base_url=server.url, verify=server.ca, headers={"Authorization": f"Bearer {admin_token()}"}, timeout=10
    )
    case.validate_response(response, checks=CHECKS)


def test_the_document_has_every_route_and_no_other() -> None:
    rooms = (routes_attest, routes_certificates, routes_metadata, routes_policy)
    routes = {
        (route.path, method)
        for room in rooms
        for route in room.ROUTES
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = document("https://127.0.0.1/simulation", "test")["paths"]
    described = {(path, method.upper()) for path, calls in paths.items() for method in calls}
    kinds = {(f"/attest/{kind}", "POST") for kind in Kind}  # the first two pass by the router
    assert described == (routes - {("/attest/{kind}", "POST")}) | kinds


def test_the_document_is_served(server: Served) -> None:
    import requests

    origin = server.url.removesuffix("/simulation")
    served_document = requests.get(f"{origin}/openapi.json", verify=server.ca, timeout=10).json()
    assert served_document["servers"] == [{"url": server.url}]
    assert served_document["paths"].keys() == document(server.url, "test")["paths"].keys()
