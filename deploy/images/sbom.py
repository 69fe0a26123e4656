"""What is in the image, as SPDX 2.3 JSON.

Source: SPDX 2.3, clauses 6 (document), 7 (packages), 11 (relationships); package URLs: purl-spec, types deb and pypi.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from debian import RELEASE, DebianPackage
from wheels import PythonPackage


def sbom(name: str, version: str, debian: Sequence[DebianPackage], python: Sequence[PythonPackage], epoch: int) -> str:
    """A document that names every package with the hash of the file it came from."""
    packages = [_debian(one) for one in debian] + [_python(one) for one in sorted(python, key=lambda one: one.name)]
    ids = [str(one["SPDXID"]) for one in packages]
    content = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    image = {
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"urn:sha256:{content}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
            "creators": ["Tool: bastide deploy/images/build.py"],
        },
        "packages": [image, *packages],
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"),
            *(_relationship("SPDXRef-Image", "CONTAINS", one) for one in ids),
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _debian(package: DebianPackage) -> dict[str, object]:
    version = quote(package.version, safe="")
    url = f"pkg:deb/debian/{quote(package.name, safe='')}@{version}?arch={package.architecture}&distro={RELEASE}"
    return _package("deb", package.name, package.version, "", package.file, url)


def _python(package: PythonPackage) -> dict[str, object]:
    name = package.name.lower().replace("_", "-")
    return _package(
        "pypi", package.name, package.version, package.licence, package.file, f"pkg:pypi/{name}@{package.version}"
    )


def _package(kind: str, name: str, version: str, licence: str, file: Path, url: str) -> dict[str, object]:
    identifier = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)
    return {
        "SPDXID": f"SPDXRef-{kind}-{identifier}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence or "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "packageFileName": file.name,
        "checksums": [{"algorithm": "SHA256", "checksumValue": hashlib.sha256(file.read_bytes()).hexdigest()}],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url},
        ],
    }


def _relationship(of: str, kind: str, to: str) -> dict[str, str]:
    return {"spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to}
