module perdure.dev/examples/inventory

go 1.24
