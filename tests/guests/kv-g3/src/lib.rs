//! The tests' functions over wasi:keyvalue, generation 3.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/keyvalue-g3", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/store.rs");

use wasi::keyvalue::store::{Bucket, Error, KeyResponse};

fn page(bucket: &Bucket, cursor: Option<u64>) -> Result<KeyResponse, Error> {
    bucket.list_keys(cursor)
}
