#!/bin/sh
# Prints every image that the chart would run, one a line: what a cluster without a way out needs in its own registry.
# Arguments go to helm: deploy/images/list.sh --values mine.yaml
set -eu
chart=$(cd "$(dirname "$0")/../helm/bastide" && pwd)
rendered=$("${HELM:-helm}" template bastide "$chart" "$@") # by itself, so that its failure is ours
printf '%s\n' "$rendered" | sed -n 's/^ *\(- \)\{0,1\}image: *"\{0,1\}\([^" ]*\)"\{0,1\} *$/\2/p' | sort -u
