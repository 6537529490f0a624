//! A guest that is told of changes of buckets, over wasi:keyvalue, generation 4.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/keyvalue-g4", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/watch.rs");
include!("../../common/store.rs");

use wasi::keyvalue::store::{Bucket, Error, KeyResponse};

fn page(bucket: &Bucket, cursor: Option<String>) -> Result<KeyResponse, Error> {
    bucket.list_keys(cursor.as_deref())
}

impl exports::wasi::keyvalue::watcher::Guest for Component {
    fn on_set(bucket: backend::Bucket, key: String, value: Vec<u8>) {
        told(&bucket, &key, Some(value));
    }

    fn on_delete(bucket: backend::Bucket, key: String) {
        told(&bucket, &key, None);
    }
}
