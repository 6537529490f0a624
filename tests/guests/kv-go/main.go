// The tests' functions over wasi:keyvalue, generations 3 and 4 (build tags g3, g4). See ../wit/kv.wit.
package main

import (
	"runtime"
	"runtime/debug"
	"strconv"
)

func main() {}

var calls uint64

// Bytes of the heap from which a call begins with a collection.
const heap = 16 << 20

// The collector reads the clock, and nothing may be imported while the host has `realloc` called; so it runs when it is
// asked to only.
func init() {
	debug.SetGCPercent(-1)
}

// Runs `act` on an open bucket; what it fails with is the function's error, at `payload` in an area of `size` bytes.
func with(name string, size, payload int, act func(bucket uint32, out area) *failure) uint32 {
	bucket, failed := open(name)
	out := newArea(size)
	if failed == nil {
		failed = act(bucket, out)
		bucketDrop(bucket)
	}
	if failed != nil {
		clear(out)
		out[0] = 1
		out.bytes(payload, []byte(failed.words))
	}
	return address(out)
}

// The arguments are copied by now: what was kept for former calls and for them is let go.
func begin() {
	blocks = nil
	var now runtime.MemStats
	if runtime.ReadMemStats(&now); now.HeapAlloc > heap {
		runtime.GC()
	}
}

func text(at, size uint32) string {
	return string(view(at, size))
}

//go:wasmexport perdure:tests/kv#get
func exportGet(bucket, bucketSize, key, keySize uint32) uint32 {
	name, wanted := text(bucket, bucketSize), text(key, keySize)
	begin()
	return with(name, 16, 4, func(opened uint32, out area) *failure {
		found, failed := get(opened, wanted)
		out.option(4, found.data, found.there)
		return failed
	})
}

//go:wasmexport perdure:tests/kv#set
func exportSet(bucket, bucketSize, key, keySize, data, size uint32) uint32 {
	name, wanted, copied := text(bucket, bucketSize), text(key, keySize), append([]byte{}, view(data, size)...)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure { return set(opened, wanted, copied) })
}

//go:wasmexport perdure:tests/kv#delete
func exportDelete(bucket, bucketSize, key, keySize uint32) uint32 {
	name, wanted := text(bucket, bucketSize), text(key, keySize)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure { return remove(opened, wanted) })
}

//go:wasmexport perdure:tests/kv#exists
func exportExists(bucket, bucketSize, key, keySize uint32) uint32 {
	name, wanted := text(bucket, bucketSize), text(key, keySize)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure {
		there, failed := exists(opened, wanted)
		out[4] = flag(there)
		return failed
	})
}

//go:wasmexport perdure:tests/kv#keys
func exportKeys(bucket, bucketSize uint32) uint32 {
	name := text(bucket, bucketSize)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure {
		found, failed := listKeys(opened)
		out.strings(4, found)
		return failed
	})
}

//go:wasmexport perdure:tests/kv#get-many
func exportGetMany(bucket, bucketSize, keys, count uint32) uint32 {
	name, wanted := text(bucket, bucketSize), stringsAt(keys, count)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure {
		found, failed := getMany(opened, wanted)
		list := newArea(len(found) * 12)
		for i, one := range found {
			list.option(i*12, one.data, one.there)
		}
		out.put(4, address(list))
		out.put(8, uint32(len(found)))
		return failed
	})
}

//go:wasmexport perdure:tests/kv#set-many
func exportSetMany(bucket, bucketSize, entries, count uint32) uint32 {
	name, given := text(bucket, bucketSize), make([]entry, count)
	for i := range given {
		given[i] = entry{stringAt(entries + uint32(i)*16), bytesAt(entries + uint32(i)*16 + 8)}
	}
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure { return setMany(opened, given) })
}

//go:wasmexport perdure:tests/kv#delete-many
func exportDeleteMany(bucket, bucketSize, keys, count uint32) uint32 {
	name, unwanted := text(bucket, bucketSize), stringsAt(keys, count)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure { return removeMany(opened, unwanted) })
}

//go:wasmexport perdure:tests/kv#rewrite
func exportRewrite(bucket, bucketSize, seen, seenSize, key, keySize, data, size uint32) uint32 {
	name, other, wanted := text(bucket, bucketSize), text(seen, seenSize), text(key, keySize)
	copied := append([]byte{}, view(data, size)...)
	begin()
	return with(name, 12, 4, func(opened uint32, out area) *failure {
		through, failed := open(other)
		if failed != nil {
			return failed
		}
		defer bucketDrop(through)
		list := newArea(3 * 32)
		for i, act := range []func() *failure{
			func() *failure { return nil },
			func() *failure { return set(opened, wanted, copied) },
			func() *failure { return remove(opened, wanted) },
		} {
			if failed := act(); failed != nil {
				return failed
			}
			if failed := look(through, wanted, list[i*32:]); failed != nil {
				return failed
			}
		}
		out.put(4, address(list))
		out.put(8, 3)
		return nil
	})
}

// A key by all ways of reading it, as a record `seen`.
func look(bucket uint32, key string, out area) *failure {
	found, failed := get(bucket, key)
	if failed != nil {
		return failed
	}
	batch, failed := getMany(bucket, []string{key})
	if failed != nil {
		return failed
	}
	there, failed := exists(bucket, key)
	if failed != nil {
		return failed
	}
	keys, failed := listKeys(bucket)
	if failed != nil {
		return failed
	}
	out.option(0, found.data, found.there)
	out.option(12, batch[0].data, batch[0].there)
	out[24] = flag(there)
	for _, one := range keys {
		if one == key {
			out[25] = 1
		}
	}
	out.put(28, uint32(len(keys)))
	return nil
}

//go:wasmexport perdure:tests/kv#increment
func exportIncrement(bucket, bucketSize, key, keySize uint32) uint32 {
	name, wanted := text(bucket, bucketSize), text(key, keySize)
	begin()
	return with(name, 16, 8, func(opened uint32, out area) *failure {
		found, failed := get(opened, wanted)
		if failed != nil {
			return failed
		}
		number := uint64(0)
		if found.there {
			parsed, err := strconv.ParseUint(string(found.data), 10, 64)
			if err != nil {
				return &failure{"not a number"}
			}
			number = parsed
		}
		number++
		if failed := set(opened, wanted, strconv.AppendUint(nil, number, 10)); failed != nil {
			return failed
		}
		calls++
		out.put(8, uint32(number))
		out.put(12, uint32(number>>32))
		return nil
	})
}

//go:wasmexport perdure:tests/kv#calls
func exportCalls() uint64 {
	return calls
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}
