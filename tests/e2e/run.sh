#!/bin/sh
# The end-to-end tests: real Kubernetes parts in a box of their own. Arguments go to pytest, but for a first --oldest:
# the oldest kubelet that we promise to work with. See docs/guide/e2e.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PYTHON=${BASTIDE_E2E_PYTHON:-$root/.venv/bin/python}
PACKAGES="runc containernetworking-plugins iproute2 iptables conntrack busybox-static skopeo"

oldest=
if [ "${1:-}" = --oldest ]; then
  oldest=--oldest
  shift
fi

say() { echo "e2e: $*" >&2; }

# Where nothing can be shown, nothing failed either; with BASTIDE_E2E_REQUIRED=1 (our CI) it did.
skip() {
  say "SKIPPED: $*"
  [ "${BASTIDE_E2E_REQUIRED:-}" != 1 ] || exit 1
  exit 0
}

need_packages() {
  for file in /usr/sbin/runc /usr/lib/cni/bridge /bin/busybox; do [ -e "$file" ] || return 0; done
  for command in ip iptables conntrack skopeo; do command -v "$command" >/dev/null || return 0; done
  return 1
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || skip "needs Linux on x86-64, this is $(uname -s) on $(uname -m)"
[ "$(id -u)" = 0 ] || skip "needs root for namespaces, mounts and device nodes; run: sudo make e2e"
for command in unshare nsenter; do command -v "$command" >/dev/null || skip "needs $command (package util-linux)"; done
[ -x "$PYTHON" ] || skip "needs the development environment at $PYTHON; run: make test"
if need_packages; then
  command -v apt-get >/dev/null || skip "needs $PACKAGES, and there is no apt-get to install them with"
  say "installing Debian packages: $PACKAGES"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq -y --no-install-recommends $PACKAGES >&2 ||
    { apt-get update -qq >&2 && apt-get install -qq -y --no-install-recommends $PACKAGES >&2; } ||
    skip "apt-get could not install $PACKAGES"
fi

status=0
binaries=$("$here/build.sh" $oldest) || status=$?
[ "$status" != 3 ] || skip "needs Go to build Kubernetes, as said above"
[ "$status" = 0 ] || exit "$status"

# The registry's program alone: installing its package would start a service on this machine.
if ! command -v docker-registry >/dev/null && [ ! -x "$binaries/docker-registry" ]; then
  unpacked=$(mktemp -d)
  fetch() { (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download docker-registry) >&2; }
  fetch || { apt-get update -qq >&2 && fetch; } || skip "apt-get could not fetch docker-registry"
  dpkg-deb --extract "$unpacked"/*.deb "$unpacked"
  cp "$unpacked/usr/bin/docker-registry" "$binaries/"
  rm -rf "$unpacked"
fi

# A run that was killed with -9 leaves a folder and empty cgroups; the next one removes those of boxes that are dead.
"$PYTHON" "$here/box.py"
cd "$root"
export BASTIDE_E2E=1 BASTIDE_E2E_BINARIES="$binaries"
exec "$PYTHON" -m pytest -vv -ra --timeout 900 tests/e2e "$@"
