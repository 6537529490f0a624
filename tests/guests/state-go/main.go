// State of every kind, from one call to the next; the functions are those of ../state/wit.
//
// The canonical ABI is written out by hand: a string is an address and a length, `realloc` is ours.
package main

import (
	"strconv"
	"strings"
	"unsafe"
)

func main() {}

//go:wasmimport perdure:state/host now
func now() uint64

//go:wasmimport perdure:state/host random
func random() uint64

//go:wasmimport perdure:state/host [constructor]note
func newNote(name string) int32

//go:wasmimport perdure:state/host [method]note.append
func appendNote(note int32, text string) uint32

//go:wasmimport perdure:state/host [resource-drop]note
func dropNote(note int32)

var (
	count   uint64
	mixed   uint64
	entries = map[string]string{}
	blocks  [][]byte
	notes   []int32

	// Arguments live from `realloc` to the end of the call.
	arguments [][]byte
	// What was returned last, and the area that points to it.
	returned string
	area     [3]uint32
)

//go:wasmexport cabi_export_realloc
func realloc(old, oldSize, alignment, size uint32) uint32 {
	block := make([]byte, size+alignment)
	arguments = append(arguments, block)
	address := uint32(uintptr(unsafe.Pointer(&block[0])))
	return (address + alignment - 1) &^ (alignment - 1)
}

// The adapter allocates through this name.
//
//go:wasmexport cabi_import_realloc
func importRealloc(old, oldSize, alignment, size uint32) uint32 {
	return realloc(old, oldSize, alignment, size)
}

func text(address, length uint32) string {
	if length == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(uintptr(address))), length))
}

func done() {
	arguments = nil
}

//go:wasmexport perdure:state/state#count
func exportCount() uint64 {
	count++
	return count
}

//go:wasmexport perdure:state/state#remember
func exportRemember(key, keyLength, value, valueLength uint32) uint32 {
	defer done()
	entries[text(key, keyLength)] = text(value, valueLength)
	return uint32(len(entries))
}

//go:wasmexport perdure:state/state#recall
func exportRecall(key, keyLength uint32) uint32 {
	defer done()
	value, found := entries[text(key, keyLength)]
	returned = value
	area = [3]uint32{}
	if found {
		area[0] = 1
		area[1] = uint32(uintptr(unsafe.Pointer(unsafe.StringData(returned))))
		area[2] = uint32(len(returned))
	}
	return uint32(uintptr(unsafe.Pointer(&area)))
}

//go:wasmexport perdure:state/state#forget
func exportForget(key, keyLength uint32) int32 {
	defer done()
	name := text(key, keyLength)
	_, found := entries[name]
	delete(entries, name)
	if found {
		return 1
	}
	return 0
}

//go:wasmexport perdure:state/state#churn
func exportChurn(rounds uint32) uint64 {
	items := make([]string, rounds)
	var sum uint64
	for round := range items {
		items[round] = strings.Repeat(strconv.Itoa(round), 3)
		sum += uint64(len(items[round]))
	}
	return sum
}

//go:wasmexport perdure:state/state#grow
func exportGrow(size uint32) uint64 {
	block := make([]byte, size)
	for index := range block {
		block[index] = byte(len(blocks))
	}
	blocks = append(blocks, block)
	var sum uint64
	for _, one := range blocks {
		sum += uint64(len(one))
	}
	return sum
}

//go:wasmexport perdure:state/state#stamp
func exportStamp() uint64 {
	mixed = (mixed<<7 | mixed>>57) ^ now() ^ random()
	return mixed
}

//go:wasmexport perdure:state/state#hold
func exportHold(name, nameLength uint32) uint32 {
	defer done()
	notes = append(notes, newNote(text(name, nameLength)))
	return uint32(len(notes))
}

//go:wasmexport perdure:state/state#write
func exportWrite(index, value, valueLength uint32) uint32 {
	defer done()
	return appendNote(notes[index], text(value, valueLength))
}

//go:wasmexport perdure:state/state#release
func exportRelease() uint32 {
	if last := len(notes) - 1; last >= 0 {
		dropNote(notes[last])
		notes = notes[:last]
	}
	return uint32(len(notes))
}
