// Package abi is as much of the canonical ABI as this example needs, for Go's own compiler has no bindings to WIT: a text
// or list is an address and a length, whatever has several parts lies in memory. Addresses have 32 bits, numbers are
// little-endian.
//
// What it takes from or gives to the host is a copy, or kept until the next call begins.
package abi

import (
	"encoding/binary"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// Blocks that the host has addresses of, and Go therefore no pointers to.
var kept [][]byte

// The heap from which on a call begins with a collection.
const heap = 4 << 20

// Go's collector reads the clock, and while the host has `realloc` called a guest may import nothing: so it runs when
// it is told to only.
func init() {
	debug.SetGCPercent(-1)
}

// Begin lets go of what former calls kept. Every exported function calls it, after it has copied its arguments.
func Begin() {
	kept = nil
	var now runtime.MemStats
	if runtime.ReadMemStats(&now); now.HeapAlloc > heap {
		runtime.GC()
	}
}

// The host allocates arguments of exported functions through the first of these names, results of imported ones through
// the second.

//go:wasmexport cabi_export_realloc
func realloc(_, _, alignment, size uint32) uint32 {
	block := keep(make([]byte, size+alignment))
	return (address(block) + alignment - 1) &^ (alignment - 1)
}

//go:wasmexport cabi_import_realloc
func importRealloc(old, oldSize, alignment, size uint32) uint32 {
	return realloc(old, oldSize, alignment, size)
}

func keep(block []byte) []byte {
	kept = append(kept, block)
	return block
}

func address(block []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
}

// At is a view of memory that the host has written.
func At(address, size uint32) Area {
	if size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(address))), size)
}

// Text copies an argument of type string.
func Text(address, size uint32) string {
	return string(At(address, size))
}

// Area is memory that is laid out as WIT's types are: a record's fields one after another, each at a multiple of its
// alignment; of a variant its case, then the payload.
type Area []byte

// New is an area of zeroes.
func New(size int) Area {
	words := make([]uint64, size/8+1)
	return keep(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size))
}

// Copy is an area with these bytes.
func Copy(data []byte) Area {
	return keep(append([]byte{}, data...))
}

// Address is what the host is given of it.
func (a Area) Address() uint32 {
	return address(a)
}

// Pointer is the same, for imported functions.
func (a Area) Pointer() unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(a))
}

// Uint32 reads a u32.
func (a Area) Uint32(at int) uint32 {
	return binary.LittleEndian.Uint32(a[at:])
}

// Int64 reads an s64.
func (a Area) Int64(at int) int64 {
	return int64(binary.LittleEndian.Uint64(a[at:]))
}

// Text copies a string.
func (a Area) Text(at int) string {
	return Text(a.Uint32(at), a.Uint32(at+4))
}

// Bytes copies a list<u8>.
func (a Area) Bytes(at int) []byte {
	return []byte(a.Text(at))
}

// PutInt64 writes an s64.
func (a Area) PutInt64(at int, value int64) {
	binary.LittleEndian.PutUint64(a[at:], uint64(value))
}

// PutList writes a list of `count` items that are laid out in `items`.
func (a Area) PutList(at int, items Area, count int) {
	binary.LittleEndian.PutUint32(a[at:], items.Address())
	binary.LittleEndian.PutUint32(a[at+4:], uint32(count))
}

// PutText writes a string.
func (a Area) PutText(at int, text string) {
	a.PutList(at, keep([]byte(text)), len(text))
}
