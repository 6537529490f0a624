package main

import "perdure.dev/examples/inventory/abi"

// The exported functions as the host calls them. A result is a case and its payload: `ok` is 0, `err` a text.

//go:wasmexport perdure:examples/inventory#counted
func exportCounted(list, count uint32) uint32 {
	found := abi.At(list, 16*count)
	given := make([]level, count)
	for i := range given {
		given[i] = level{found[16*i:].Text(0), found[16*i:].Int64(8)}
	}
	abi.Begin()
	return result(12, 4, counted(given), func(abi.Area) {})
}

//go:wasmexport perdure:examples/inventory#levels
func exportLevels(list, count uint32) uint32 {
	found := abi.At(list, 8*count)
	articles := make([]string, count)
	for i := range articles {
		articles[i] = found.Text(8 * i)
	}
	abi.Begin()
	known, err := levels(articles)
	return result(12, 4, err, func(payload abi.Area) {
		items := abi.New(16 * len(known))
		for i, one := range known {
			items.PutText(16*i, one.article)
			items.PutInt64(16*i+8, one.quantity)
		}
		payload.PutList(0, items, len(known))
	})
}

//go:wasmexport perdure:examples/inventory#add
func exportAdd(article, size, quantity uint32) uint32 {
	name := abi.Text(article, size)
	abi.Begin()
	sum, err := add(name, quantity)
	return result(16, 8, err, func(payload abi.Area) { payload.PutInt64(0, sum) })
}

//go:wasmexport perdure:examples/inventory#take
func exportTake(article, size, quantity uint32) uint32 {
	name := abi.Text(article, size)
	abi.Begin()
	left, err := take(name, quantity)
	return result(16, 8, err, func(payload abi.Area) { payload.PutInt64(0, left) })
}

// An area of `size` bytes, whose payload begins at `at`.
func result(size, at int, err error, ok func(payload abi.Area)) uint32 {
	out := abi.New(size)
	if err != nil {
		out[0] = 1
		out[at:].PutText(0, err.Error())
	} else {
		ok(out[at:])
	}
	return out.Address()
}
