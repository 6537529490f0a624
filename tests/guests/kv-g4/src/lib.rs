//! The tests' functions over wasi:keyvalue, generation 4.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/keyvalue-g4", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/store.rs");

use wasi::keyvalue::store::{Bucket, Error, KeyResponse};

fn page(bucket: &Bucket, cursor: Option<String>) -> Result<KeyResponse, Error> {
    bucket.list_keys(cursor.as_deref())
}
