//! A guest that knows who it is and waits for others.

use std::cell::Cell;

wit_bindgen::generate!({
    world: "perdure:errand/guest",
    path: ["../../../wit/keyvalue-g4", "../../../wit/perdure-durable", "wit"],
    generate_all,
});

use exports::perdure::errand::errand::Guest;
use perdure::durable::{calls, context, promises};
use wasi::keyvalue::{atomics, store};

thread_local! {
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

struct Component;

impl Guest for Component {
    fn about() -> (String, String, Option<String>) {
        (context::instance(), context::worker(), context::idempotency_key())
    }

    fn promise() -> String {
        promises::create()
    }

    fn wait(id: String) -> Result<Vec<u8>, String> {
        promises::wait(&id).map_err(|error| match error {
            promises::Error::Failed(why) => format!("failed: {why}"),
            promises::Error::NoSuchPromise => "no such promise".into(),
        })
    }

    fn ask(bucket: String) -> Result<Vec<u8>, String> {
        let bucket = store::open(&bucket).unwrap();
        atomics::increment(&bucket, "asked", 1).unwrap();
        let id = promises::create();
        bucket.set("id", id.as_bytes()).unwrap();
        let answer = Self::wait(id)?;
        atomics::increment(&bucket, "answered", 1).unwrap();
        ANSWERED.set(ANSWERED.get() + 1);
        Ok(answer)
    }

    fn add(bucket: String, delta: i64) -> i64 {
        atomics::increment(&store::open(&bucket).unwrap(), "n", delta).unwrap()
    }

    fn delegate(bucket: String, instance: String, function: String, arguments: String) -> Result<String, String> {
        let bucket = store::open(&bucket).unwrap();
        atomics::increment(&bucket, "asked", 1).unwrap();
        let answer = calls::call(&instance, &function, &arguments).map_err(|error| match error {
            calls::Error::NoSuchFunction(why) => format!("no such function: {why}"),
            calls::Error::BadArguments(why) => format!("bad arguments: {why}"),
            calls::Error::Refused(why) => format!("refused: {why}"),
            calls::Error::Failed(failure) => format!("{}: {}", failure.code, failure.detail),
        })?;
        atomics::increment(&bucket, "answered", 1).unwrap();
        ANSWERED.set(ANSWERED.get() + 1);
        Ok(answer)
    }

    fn trap() {
        panic!("as told")
    }

    fn answered() -> u64 {
        ANSWERED.get()
    }
}

export!(Component);
