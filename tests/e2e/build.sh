#!/bin/sh
# Builds the real Kubernetes parts, etcd and containerd for the end-to-end tests, from their Go modules.
# Prints the folder that holds them on standard output; everything else goes to standard error. Ends with 3 where there
# is no Go to build with. With --oldest the kubelet among them is the oldest one that the node agent promises to work with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

KUBERNETES=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$here/kube/go.mod")
OLDEST=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$here/kube134/go.mod")
CONTAINERD=2.4.2
PARTS="kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet etcd"

say() { echo "e2e: $*" >&2; }

# Whatever decides the result is part of the folder's name: a change builds anew, and no stale binary is ever run.
inputs=$(cat "$here/kube/go.mod" "$here/kube/go.sum" "$here/kube/main.go" "$0" | sha256sum | cut -c1-12)
caches=${BASTIDE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastide-e2e}
cache=$caches/$inputs
if [ "${1:-}" = --oldest ]; then
  newest=$("$0")
  inputs=$(cat "$here/kube134/go.mod" "$here/kube134/go.sum" "$here/kube134/main.go" "$0" | sha256sum | cut -c1-12)
  cache=$caches/oldest-$inputs
fi
if [ -e "$cache/complete" ]; then
  say "Kubernetes $KUBERNETES${newest:+, kubelet $OLDEST} and containerd $CONTAINERD were built before: $cache"
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
  major=${1%%.*}
  rest=${1#*.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s ' \
      "$package" "$1" "$package" "$major" "$package" "${rest%%.*}"
  done
}

mkdir -p "$cache"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
if [ "${1:-}" = --oldest ]; then
  say "building kubelet $OLDEST into $cache (about 4 minutes on 2 cores; later runs build nothing)"
  ln -sf "$newest"/* "$cache/"
  rm "$cache/kubelet" "$cache/complete"
  cd "$here/kube134"
  build "$(go list -deps . | wc -l)" nice -n 19 go build -v -trimpath -ldflags "-s -w $(version_flags "$OLDEST")" \
    -o "$cache/kubelet" .
  touch "$cache/complete"
  echo "$cache"
  exit 0
fi
say "building into $cache (about 8 minutes on 2 cores, some 7 GB of Go's caches; later runs build nothing)"

say "1 of 2: Kubernetes $KUBERNETES and etcd, one binary (about 7 minutes)"
cd "$here/kube"
packages=$(go list -deps . | wc -l)
build "$packages" nice go build -v -trimpath -ldflags "-s -w $(version_flags "$KUBERNETES")" -o "$cache/kube" .
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
