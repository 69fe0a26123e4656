#!/bin/sh
# Builds the real Kubernetes parts, etcd, containerd, helm, CoreDNS and oras for the end-to-end tests, from their Go modules.
# Prints the folder that holds them on standard output; everything else goes to standard error. Ends with 3 where there
# is no Go to build with. With --oldest the kubelet among them is the oldest one that the node agent promises to work with.
set -eu
oldest=
here=$(cd "$(dirname "$0")" && pwd)

KUBERNETES=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$here/kube/go.mod")
OLDEST=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$here/kube134/go.mod")
CONTAINERD=2.4.2
HELM=4.3.1
COREDNS=1.15.0
ORAS=1.3.6
PARTS="kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet etcd"

say() { echo "e2e: $*" >&2; }

version_flags() {
  major=${1%%.*}
  rest=${1#*.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s ' \
      "$package" "$1" "$package" "$major" "$package" "${rest%%.*}"
  done
}

# Whatever decides a result is part of its folder's name: a change builds anew, and no stale binary is ever run. Each
# program has a folder of its own, so that a new helm does not build Kubernetes.
cache=${BASTIDE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastide-e2e}
source_of() { (cat "$1/go.mod" "$1/go.sum" "$1/main.go" && version_flags "$2") | sha256sum | cut -c1-12; }
kube=$cache/kubernetes-$KUBERNETES-$(source_of "$here/kube" "$KUBERNETES")
containerd=$cache/containerd-$CONTAINERD
helm=$cache/helm-$HELM
coredns=$cache/coredns-$COREDNS
oras=$cache/oras-$ORAS
bin=$cache/bin-$(echo "$kube $containerd $helm $coredns $oras" | sha256sum | cut -c1-12)
if [ "${1:-}" = --oldest ]; then
  oldest=$cache/kubelet-$OLDEST-$(source_of "$here/kube134" "$OLDEST")
  bin=$bin-${oldest##*/}
fi

if [ -e "$bin/complete" ]; then
  say "Kubernetes $KUBERNETES${oldest:+ with kubelet $OLDEST}, containerd $CONTAINERD, helm $HELM, CoreDNS $COREDNS and" \
    "oras $ORAS were built before: $bin"
  echo "$bin"
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

# compile MODULE FILE VERSION: one binary of a module of ours, unless it was built before.
compile() {
  folder=${2%/*}
  [ ! -e "$folder/complete" ] || return 0
  mkdir -p "$folder"
  cd "$1"
  packages=$(go list -deps . | wc -l)
  build "$packages" nice go build -v -trimpath -ldflags "-s -w $(version_flags "$3")" -o "$2" .
  touch "$folder/complete"
}

# install FOLDER PACKAGES FLAGS PROGRAM@VERSION...: programs of a module, unless they were built before.
install() {
  GOBIN=$1 all=$2 flags=$3
  shift 3
  [ ! -e "$GOBIN/complete" ] || return 0
  export GOBIN
  build "$all" nice go install -v -trimpath -tags no_btrfs,no_devmapper,no_zfs -ldflags "$flags" "$@"
  touch "$GOBIN/complete"
}

mkdir -p "$cache"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
say "building into $cache (about 12 minutes on 2 cores, some 10 GB of Go's caches; later runs build nothing)"

say "1 of 5: Kubernetes $KUBERNETES and etcd, one binary (about 7 minutes)"
compile "$here/kube" "$kube/kube" "$KUBERNETES"

say "2 of 5: containerd $CONTAINERD (about 1 minute)"
module=github.com/containerd/containerd/v2
install "$containerd" 900 "-s -w -X $module/version.Version=v$CONTAINERD" \
  "$module/cmd/containerd@v$CONTAINERD" "$module/cmd/containerd-shim-runc-v2@v$CONTAINERD" "$module/cmd/ctr@v$CONTAINERD"

say "3 of 5: helm $HELM (about 2 minutes)"
install "$helm" 1100 "-s -w" "helm.sh/helm/v4/cmd/helm@v$HELM"

say "4 of 5: CoreDNS $COREDNS (about 2 minutes)"
install "$coredns" 1900 "-s -w" "github.com/coredns/coredns@v$COREDNS"

say "5 of 5: oras $ORAS (less than a minute)"
install "$oras" 500 "-s -w" "oras.land/oras/cmd/oras@v$ORAS"

if [ -n "${oldest:-}" ]; then
  say "and kubelet $OLDEST (about 4 minutes)"
  compile "$here/kube134" "$oldest/kubelet" "$OLDEST"
fi

mkdir -p "$bin"
for part in $PARTS; do ln -sfn "$kube/kube" "$bin/$part"; done
for program in "$containerd"/* "$helm/helm" "$coredns/coredns" "$oras/oras"; do ln -sfn "$program" "$bin/${program##*/}"; done
[ -z "${oldest:-}" ] || ln -sfn "$oldest/kubelet" "$bin/kubelet"
touch "$bin/complete"
say "built: $(du -shc "$kube" "$containerd" "$helm" "$coredns" "$oras" | tail -n 1 | cut -f1) in $cache"
echo "$bin"
