#!/bin/sh
# Makes inventory.wasm: Go's own compiler makes a core module, and jco (npm install -g @bytecodealliance/jco@1.15.1) a
# component of it.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
./go-build.sh -o "$work/core.wasm" .
jco embed "$work/core.wasm" --wit wit --world-name inventory-example --string-encoding utf8 --output "$work/embedded.wasm"
jco new "$work/embedded.wasm" --wasi-reactor --output inventory.wasm
