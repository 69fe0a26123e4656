#!/bin/sh
# Builds the real KEDA from its Go module: operator and metrics server, with the module's own go.mod, so with the versions
# of everything that its release has. Prints the folder that holds them and KEDA's manifests; everything else goes to
# standard error.
set -eu
KEDA=2.21.0
MODULE=github.com/kedacore/keda/v2

say() { echo "e2e: $*" >&2; }

cache=${BASTIDE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastide-e2e}
folder=$cache/keda-$KEDA
if [ -e "$folder/complete" ]; then
  echo "$folder"
  exit 0
fi

command -v go >/dev/null || { say "no 'go' in PATH"; exit 3; }
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
mkdir -p "$folder"
# Outside of any module: what is downloaded is checked against the checksum database.
source=$(cd "$folder" && GOWORK=off go mod download -json "$MODULE@v$KEDA" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -n "$source" ] || { say "the module proxy does not give $MODULE@v$KEDA"; exit 1; }
rm -rf "$folder/source"
cp -r "$source" "$folder/source"
chmod -R u+w "$folder/source"
cd "$folder/source"
for program in operator adapter; do
  say "building KEDA's $program (many minutes the first time: it knows every cloud)"
  nice go build -trimpath -ldflags "-s -w -X $MODULE/version.Version=$KEDA" -o "$folder/$program" "./cmd/$program" >&2
done
cp -r config "$folder/config"
rm -rf "$folder/source"
touch "$folder/complete"
echo "$folder"
