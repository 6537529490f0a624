module perdure.dev/tests/state

go 1.24
