// Operations on buckets, the same for both generations but for `listKeys`.
package main

import "unsafe"

type failure struct{ words string }

type entry struct {
	key   string
	value []byte
}

type value struct {
	data  []byte
	there bool
}

func pointer(block []byte) unsafe.Pointer {
	if len(block) == 0 {
		return nil
	}
	return unsafe.Pointer(&block[0])
}

// The error of a result whose payload begins at `payload`.
func failedAt(out area, payload int) *failure {
	if out[0] == 0 {
		return nil
	}
	switch out[payload] {
	case 0:
		return &failure{"no such store"}
	case 1:
		return &failure{"access denied"}
	default:
		return &failure{stringAt(address(out) + uint32(payload) + 4)}
	}
}

func open(name string) (uint32, *failure) {
	out := newArea(16)
	storeOpen(name, pointer(out))
	return u32(address(out) + 4), failedAt(out, 4)
}

func get(bucket uint32, key string) (value, *failure) {
	out := newArea(16)
	bucketGet(bucket, key, pointer(out))
	if failed := failedAt(out, 4); failed != nil || out[4] == 0 {
		return value{}, failed
	}
	return value{bytesAt(address(out) + 8), true}, nil
}

func set(bucket uint32, key string, data []byte) *failure {
	out := newArea(16)
	bucketSet(bucket, key, pointer(data), uint32(len(data)), pointer(out))
	return failedAt(out, 4)
}

func remove(bucket uint32, key string) *failure {
	out := newArea(16)
	bucketDelete(bucket, key, pointer(out))
	return failedAt(out, 4)
}

func exists(bucket uint32, key string) (bool, *failure) {
	out := newArea(16)
	bucketExists(bucket, key, pointer(out))
	return out[4] == 1, failedAt(out, 4)
}

func getMany(bucket uint32, keys []string) ([]value, *failure) {
	list := newArea(8)
	list.strings(0, keys)
	out := newArea(16)
	batchGet(bucket, unsafe.Pointer(uintptr(u32(address(list)))), uint32(len(keys)), pointer(out))
	if failed := failedAt(out, 4); failed != nil {
		return nil, failed
	}
	at, count := u32(address(out)+4), u32(address(out)+8)
	found := make([]value, count)
	for i := range found {
		item := at + uint32(i)*20
		if view(item, 1)[0] == 1 {
			found[i] = value{bytesAt(item + 12), true}
		}
	}
	return found, nil
}

func setMany(bucket uint32, entries []entry) *failure {
	list := newArea(len(entries) * 16)
	for i, one := range entries {
		list.bytes(i*16, []byte(one.key))
		list.bytes(i*16+8, one.value)
	}
	out := newArea(16)
	batchSet(bucket, pointer(list), uint32(len(entries)), pointer(out))
	return failedAt(out, 4)
}

func removeMany(bucket uint32, keys []string) *failure {
	list := newArea(8)
	list.strings(0, keys)
	out := newArea(16)
	batchDelete(bucket, unsafe.Pointer(uintptr(u32(address(list)))), uint32(len(keys)), pointer(out))
	return failedAt(out, 4)
}
