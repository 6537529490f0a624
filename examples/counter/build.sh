#!/bin/sh
# Makes counter.wasm: componentize-py (pip install componentize-py==0.25.1) takes a snapshot of a Python interpreter that has
# imported app.py.
set -eu
cd "$(dirname "$0")"
# Only the application and Python's own library shall go in, not what happens to be installed here.
unset VIRTUAL_ENV
componentize-py --quiet --wit-path wit --world counter-example componentize app --output counter.wasm
