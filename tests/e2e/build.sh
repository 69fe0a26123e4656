#!/bin/sh
# Builds the real Kubernetes parts, etcd and containerd for the end-to-end tests, from their Go modules.
# Prints the folder that holds them on standard output; everything else goes to standard error. Ends with 3 where there
# is no Go to build with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

KUBERNETES=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$here/kube/go.mod")
CONTAINERD=2.4.2
PARTS="kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet etcd"

say() { echo "e2e: $*" >&2; }

# Whatever decides the result is part of the folder's name: a change builds anew, and no stale binary is ever run.
inputs=$(cat "$here/kube/go.mod" "$here/kube/go.sum" "$here/kube/main.go" "$0" | sha256sum | cut -c1-12)
cache=${BASTIDE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastide-e2e}/$inputs
if [ -e "$cache/complete" ]; then
  say "Kubernetes $KUBERNETES and containerd $CONTAINERD were built before: $cache"
  echo "$cache"
  exit 0
fi

needed=$(sed -n 's/^go //p' "$here/kube/go.mod")
if ! command -v go >/dev/null; then
  say "no 'go' in PATH; Go $needed or newer builds Kubernetes"
  exit 3
fi
found=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')
if [ "$(printf '%s\n' "$needed" "$found" | sort -V | head -n 1)" != "$needed" ]; then
  say "Go $needed or newer builds Kubernetes; this is Go $found"
  exit 3
fi

# go build -v names each package as it is compiled: counted, they say how far it is.
count() {
  awk -v of="$1" '/^[a-zA-Z0-9_.]+(\/[^ ]+)*$/ { if (++n % 100 == 0) print "e2e:   " n " of at most " of " packages"; next }
    { print }' >&2
}

# sh has no pipefail: the exit status of what is counted goes through a file.
build() {
  all=$1
  shift
  { "$@" 2>&1 || echo "$?" >"$cache/failed"; } | count "$all"
  if [ -e "$cache/failed" ]; then
    rm -f "$cache/failed"
    say "the build failed: $*"
    exit 1
  fi
}

version_flags() {
  major=${KUBERNETES%%.*}
  rest=${KUBERNETES#*.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s ' \
      "$package" "$KUBERNETES" "$package" "$major" "$package" "${rest%%.*}"
  done
}

mkdir -p "$cache"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
say "building into $cache (about 8 minutes on 2 cores, some 7 GB of Go's caches; later runs build nothing)"

say "1 of 2: Kubernetes $KUBERNETES and etcd, one binary (about 7 minutes)"
cd "$here/kube"
packages=$(go list -deps . | wc -l)
build "$packages" nice go build -v -trimpath -ldflags "-s -w $(version_flags)" -o "$cache/kube" .
for part in $PARTS; do ln -sf kube "$cache/$part"; done

say "2 of 2: containerd $CONTAINERD (about 1 minute)"
module=github.com/containerd/containerd/v2
export GOBIN="$cache"
build 900 nice go install -v -trimpath -tags no_btrfs,no_devmapper,no_zfs \
  -ldflags "-s -w -X $module/version.Version=v$CONTAINERD" \
  "$module/cmd/containerd@v$CONTAINERD" "$module/cmd/containerd-shim-runc-v2@v$CONTAINERD" "$module/cmd/ctr@v$CONTAINERD"

touch "$cache/complete"
say "built: $(du -shL --exclude='kube-*' --exclude=etcd --exclude=kubelet "$cache" | cut -f1) in $cache"
echo "$cache"
