//go:build g4

package main

import "unsafe"

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
func storeOpen(name string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [resource-drop]bucket
func bucketDrop(bucket uint32)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.get
func bucketGet(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.set
func bucketSet(bucket uint32, key string, value unsafe.Pointer, size uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.delete
func bucketDelete(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.exists
func bucketExists(bucket uint32, key string, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 get-many
func batchGet(bucket uint32, keys unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 set-many
func batchSet(bucket uint32, entries unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/batch@0.2.0-draft2 delete-many
func batchDelete(bucket uint32, keys unsafe.Pointer, count uint32, out unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.list-keys
func bucketKeys(bucket uint32, there uint32, cursor string, out unsafe.Pointer)

// Cursors are texts.
func listKeys(bucket uint32) ([]string, *failure) {
	var found []string
	var there uint32
	var cursor string
	for {
		out := newArea(24)
		bucketKeys(bucket, there, cursor, pointer(out))
		if failed := failedAt(out, 4); failed != nil {
			return nil, failed
		}
		at := address(out)
		found = append(found, stringsAt(u32(at+4), u32(at+8))...)
		if out[12] == 0 {
			return found, nil
		}
		there, cursor = 1, stringAt(at+16)
	}
}
