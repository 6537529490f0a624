// The canonical ABI by hand: what the host gives lies in blocks that `realloc` made, what it is given in blocks kept
// until the next call. Addresses are 32 bits, numbers little-endian.
package main

import (
	"encoding/binary"
	"unsafe"
)

// Blocks that nothing but a number points to.
var blocks [][]byte

//go:wasmexport cabi_export_realloc
func realloc(old, oldSize, alignment, size uint32) uint32 {
	block := make([]byte, size+alignment)
	blocks = append(blocks, block)
	return (address(block) + alignment - 1) &^ (alignment - 1)
}

// The adapter allocates through this name.
//
//go:wasmexport cabi_import_realloc
func importRealloc(old, oldSize, alignment, size uint32) uint32 {
	return realloc(old, oldSize, alignment, size)
}

func address(block []byte) uint32 {
	if len(block) == 0 {
		return 0
	}
	return uint32(uintptr(unsafe.Pointer(&block[0])))
}

// A view of the guest's own memory.
func view(at, size uint32) []byte {
	if size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(at))), size)
}

func u32(at uint32) uint32 {
	return binary.LittleEndian.Uint32(view(at, 4))
}

func u64(at uint32) uint64 {
	return binary.LittleEndian.Uint64(view(at, 8))
}

// A list<u8> or string whose address and length lie at `at`.
func bytesAt(at uint32) []byte {
	return append([]byte{}, view(u32(at), u32(at+4))...)
}

func stringAt(at uint32) string {
	return string(view(u32(at), u32(at+4)))
}

func stringsAt(at, count uint32) []string {
	found := make([]string, count)
	for i := range found {
		found[i] = stringAt(at + uint32(i)*8)
	}
	return found
}

// An area of eight-byte alignment, kept until the next call.
type area []byte

func newArea(size int) area {
	words := make([]uint64, (size+7)/8+1)
	block := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)[:size]
	blocks = append(blocks, block)
	return block
}

func (a area) put(at int, value uint32) {
	binary.LittleEndian.PutUint32(a[at:], value)
}

// Address and length of `data`, which is kept.
func (a area) bytes(at int, data []byte) {
	if len(data) > 0 {
		blocks = append(blocks, data)
	}
	a.put(at, address(data))
	a.put(at+4, uint32(len(data)))
}

// An option<list<u8>>.
func (a area) option(at int, data []byte, there bool) {
	if there {
		a[at] = 1
		a.bytes(at+4, data)
	}
}

func (a area) strings(at int, found []string) {
	list := newArea(len(found) * 8)
	for i, text := range found {
		list.bytes(i*8, []byte(text))
	}
	a.put(at, address(list))
	a.put(at+4, uint32(len(found)))
}
