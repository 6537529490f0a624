// Package keyvalue is `wasi:keyvalue@0.2.0-draft2` as Go would have it.
package keyvalue

import (
	"errors"

	"perdure.dev/examples/inventory/abi"
)

// What an operation on a bucket can meet. Other refusals, of a value that is too large for instance, come in words.
var (
	ErrNoSuchStore  = errors.New("the Worker's manifest has no such bucket")
	ErrAccessDenied = errors.New("the Worker may not do that with the bucket")
)

// Bucket is one that is open.
type Bucket struct{ handle uint32 }

// Open opens a bucket of the Worker's manifest.
func Open(name string) (Bucket, error) {
	out := abi.New(16)
	storeOpen(name, out.Pointer())
	if err := failed(out, 4); err != nil {
		return Bucket{}, err
	}
	return Bucket{out.Uint32(4)}, nil
}

// Close gives the handle back.
func (b Bucket) Close() {
	bucketDrop(b.handle)
}

// GetMany reads several values at once, in the order of `keys`. A missing one is nil.
func (b Bucket) GetMany(keys []string) ([][]byte, error) {
	list := abi.New(8 * len(keys))
	for i, key := range keys {
		list.PutText(8*i, key)
	}
	out := abi.New(16)
	batchGetMany(b.handle, list.Pointer(), uint32(len(keys)), out.Pointer())
	if err := failed(out, 4); err != nil {
		return nil, err
	}
	found := abi.At(out.Uint32(4), 20*out.Uint32(8)) // list<option<tuple<string, list<u8>>>>
	values := make([][]byte, len(keys))
	for i := range values {
		if item := found[20*i:]; item[0] == 1 {
			values[i] = item.Bytes(12)
		}
	}
	return values, nil
}

// Entry is a key and its value.
type Entry struct {
	Key   string
	Value []byte
}

// SetMany sets several keys. As all that a call writes between two gates, they are to be seen at once.
func (b Bucket) SetMany(entries []Entry) error {
	list := abi.New(16 * len(entries))
	for i, entry := range entries {
		list.PutText(16*i, entry.Key)
		list.PutText(16*i+8, string(entry.Value))
	}
	out := abi.New(16)
	batchSetMany(b.handle, list.Pointer(), uint32(len(entries)), out.Pointer())
	return failed(out, 4)
}

// Increment adds to a decimal number, whoever else does so meanwhile, and gives the sum. A missing one is 0.
func (b Bucket) Increment(key string, delta int64) (int64, error) {
	out := abi.New(24)
	atomicsIncrement(b.handle, key, delta, out.Pointer())
	if err := failed(out, 8); err != nil {
		return 0, err
	}
	return out.Int64(8), nil
}

// Update replaces the value that is there with what `change` makes of it. If somebody else was faster, `change` is asked
// again with what is there then. Its error ends the update, and nothing has changed.
func (b Bucket) Update(key string, change func(current []byte) ([]byte, error)) error {
	out := abi.New(16)
	casNew(b.handle, key, out.Pointer())
	if err := failed(out, 4); err != nil {
		return err
	}
	for cas := out.Uint32(4); ; {
		value, err := changed(cas, change)
		if err != nil {
			casDrop(cas)
			return err
		}
		out = abi.New(24)
		atomicsSwap(cas, abi.Copy(value).Pointer(), uint32(len(value)), out.Pointer()) // takes the handle
		if out[0] == 0 {
			return nil
		}
		if out[4] == 0 { // cas-error: store-error
			return reason(out[8:])
		}
		cas = out.Uint32(8) // cas-failed, with a handle of what is there now
	}
}

func changed(cas uint32, change func(current []byte) ([]byte, error)) ([]byte, error) {
	out := abi.New(16)
	casCurrent(cas, out.Pointer())
	if err := failed(out, 4); err != nil {
		return nil, err
	}
	if out[4] == 0 {
		return change(nil)
	}
	return change(out.Bytes(8))
}

// The error of a result, whose payload is at `payload`.
func failed(out abi.Area, payload int) error {
	if out[0] == 0 {
		return nil
	}
	return reason(out[payload:])
}

func reason(variant abi.Area) error {
	switch variant[0] {
	case 0:
		return ErrNoSuchStore
	case 1:
		return ErrAccessDenied
	default:
		return errors.New(variant.Text(4))
	}
}
