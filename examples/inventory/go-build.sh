#!/bin/sh
# `go build` for a core module that is to become a component: ./go-build.sh -o core.wasm .
#
# Go's runtime believes that memory grows for its heap alone. But the adapter to WASI takes two pages at the first calls that
# the runtime makes, before there is a heap. With these lines in the runtime, the heap begins behind them; without, both
# write to the same pages, which shows sooner or later.
set -eu
source=$(go env GOROOT)/src/runtime/mem_wasm.go
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed '/^func sbrk(n uintptr) unsafe.Pointer {$/a\
	if end := uintptr(currentMemory()) * physPageSize; blocMax < end {\
		bloc, blocMax = end, end\
	}' "$source" >"$work/mem_wasm.go"
if cmp -s "$source" "$work/mem_wasm.go"; then
  echo "the runtime of $(go env GOVERSION) is another than this script knows" >&2
  exit 1
fi
printf '{"Replace": {"%s": "%s"}}' "$source" "$work/mem_wasm.go" >"$work/overlay.json"
GOOS=wasip1 GOARCH=wasm go build -overlay "$work/overlay.json" -buildmode=c-shared -ldflags='-s -w' "$@"
