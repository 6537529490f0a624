// An inventory that many instances share: however many of them take from it at the same time, on whatever hosts, nothing
// is sold twice. See wit/inventory.wit.
//
// Calls of one instance run one after another, those of different instances side by side. So a number that they share is
// never read, changed and set. It is changed by `wasi:keyvalue/atomics`, whose operations the store carries out itself,
// once each, though the host die in between.
package main

import (
	"fmt"
	"strconv"

	"perdure.dev/examples/inventory/keyvalue"
)

const bucketName = "stock"

func main() {}

type level struct {
	article  string
	quantity int64
}

func counted(levels []level) error {
	bucket, err := keyvalue.Open(bucketName)
	if err != nil {
		return err
	}
	defer bucket.Close()
	entries := make([]keyvalue.Entry, len(levels))
	for i, one := range levels {
		if one.quantity < 0 {
			return fmt.Errorf("there cannot be %d of %s", one.quantity, one.article)
		}
		entries[i] = keyvalue.Entry{Key: one.article, Value: text(one.quantity)}
	}
	return bucket.SetMany(entries)
}

func levels(articles []string) ([]level, error) {
	bucket, err := keyvalue.Open(bucketName)
	if err != nil {
		return nil, err
	}
	defer bucket.Close()
	values, err := bucket.GetMany(articles)
	if err != nil {
		return nil, err
	}
	found := make([]level, len(articles))
	for i, value := range values {
		found[i] = level{articles[i], number(value)}
	}
	return found, nil
}

// Adding is the same whatever is there: the store can do it alone.
func add(article string, quantity uint32) (int64, error) {
	bucket, err := keyvalue.Open(bucketName)
	if err != nil {
		return 0, err
	}
	defer bucket.Close()
	return bucket.Increment(article, int64(quantity))
}

// Taking depends on what is there: the new value is kept only if the one that it was made from still is.
func take(article string, quantity uint32) (int64, error) {
	bucket, err := keyvalue.Open(bucketName)
	if err != nil {
		return 0, err
	}
	defer bucket.Close()
	var left int64
	err = bucket.Update(article, func(current []byte) ([]byte, error) {
		there := number(current)
		if there < int64(quantity) {
			return nil, fmt.Errorf("there are only %d of %s", there, article)
		}
		left = there - int64(quantity)
		return text(left), nil
	})
	return left, err
}

func text(quantity int64) []byte {
	return strconv.AppendInt(nil, quantity, 10)
}

// What is no number was put there by somebody else: a panic is a trap, which ends the call.
func number(value []byte) int64 {
	if value == nil {
		return 0
	}
	quantity, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		panic(err)
	}
	return quantity
}
