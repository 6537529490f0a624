package keyvalue

import "unsafe"

// As `wit/deps/keyvalue-g4` has them. A resource is a number; a result of more than one part is written to `out`.

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
func storeOpen(name string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [resource-drop]bucket
func bucketDrop(bucket uint32)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 get-many
func batchGetMany(bucket uint32, keys unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 set-many
func batchSetMany(bucket uint32, entries unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 increment
func atomicsIncrement(bucket uint32, key string, delta int64, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [static]cas.new
func casNew(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [method]cas.current
func casCurrent(cas uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 swap
func atomicsSwap(cas uint32, value unsafe.Pointer, size uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [resource-drop]cas
func casDrop(cas uint32)
