//! The key-value example of Golem's documentation as a durable Worker: `wasi:keyvalue`, first generation.

use std::cell::Cell;

wit_bindgen::generate!({
    world: "golem:examples/key-value-example",
    path: ["../../wit/io-2023-11-10", "../../wit/keyvalue-g1", "wit"],
    generate_all,
});

use exports::golem::examples::api::Guest;
use wasi::keyvalue::readwrite;
use wasi::keyvalue::types::{Bucket, Error, OutgoingValue};

struct Component;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

fn fail(what: &str, error: &Error) -> ! {
    panic!("{what}: {}", error.trace())
}

impl Guest for Component {
    fn get(bucket: String, key: String) -> Option<Vec<u8>> {
        count();
        let bucket = Bucket::open_bucket(&bucket).unwrap_or_else(|error| fail("open", &error));
        match readwrite::get(&bucket, &key) {
            Ok(value) => match value.incoming_value_consume_sync() {
                Ok(bytes) => Some(bytes),
                Err(error) => fail("read", &error),
            },
            Err(error) if error.trace() == "Key not found" => None,
            Err(error) => fail("get", &error),
        }
    }

    fn set(bucket: String, key: String, value: Vec<u8>) {
        count();
        let bucket = Bucket::open_bucket(&bucket).unwrap_or_else(|error| fail("open", &error));
        let outgoing = OutgoingValue::new_outgoing_value();
        if let Err(error) = outgoing.outgoing_value_write_body_sync(&value) {
            fail("write", &error);
        }
        if let Err(error) = readwrite::set(&bucket, &key, &outgoing) {
            fail("set", &error);
        }
    }

    fn calls() -> u64 {
        CALLS.with(Cell::get)
    }
}

export!(Component);
