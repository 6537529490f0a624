module perdure.dev/tests/kv

go 1.24
