//go:build g3

package main

import "unsafe"

//go:wasmimport wasi:keyvalue/store@0.2.0-draft open
func storeOpen(name string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [resource-drop]bucket
func bucketDrop(bucket uint32)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.get
func bucketGet(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.set
func bucketSet(bucket uint32, key string, value unsafe.Pointer, size uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.delete
func bucketDelete(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.exists
func bucketExists(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft get-many
func batchGet(bucket uint32, keys unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft set-many
func batchSet(bucket uint32, entries unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft delete-many
func batchDelete(bucket uint32, keys unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.list-keys
func bucketKeys(bucket uint32, there uint32, cursor uint64, out unsafe.Pointer)

// Cursors are numbers: the payload of the result is aligned to eight bytes.
func listKeys(bucket uint32) ([]string, *failure) {
	var found []string
	var there uint32
	var cursor uint64
	for {
		out := newArea(32)
		bucketKeys(bucket, there, cursor, pointer(out))
		if failed := failedAt(out, 8); failed != nil {
			return nil, failed
		}
		at := address(out)
		found = append(found, stringsAt(u32(at+8), u32(at+12))...)
		if out[16] == 0 {
			return found, nil
		}
		there, cursor = 1, u64(at+24)
	}
}
