#!/bin/sh
# Pins every requirement with hashes, for all supported Pythons; no registry address is written.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}
compile() {
    "$uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links -o "$@"
}
compile requirements/base.txt pyproject.toml
compile requirements/node.txt pyproject.toml --extra node
compile requirements/build.txt --group build
compile requirements/dev.txt pyproject.toml --all-extras --group build --group dev
compile requirements/enclave.txt pyproject.toml --extra enclave
compile requirements/service.txt pyproject.toml --extra postgres
compile requirements/fuzz.txt --group fuzz
