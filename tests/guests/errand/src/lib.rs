//! A guest that knows who it is and waits for others.

use std::cell::Cell;

wit_bindgen::generate!({
    world: "perdure:errand/guest",
    path: ["../../../wit/keyvalue-g4", "../../../wit/perdure-durable", "wit"],
    generate_all,
});

use exports::perdure::errand::errand::Guest;
use perdure::durable::{context, promises};
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

    fn answered() -> u64 {
        ANSWERED.get()
    }
}

export!(Component);
