//! The tests' functions over wasi:keyvalue, generation 1.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/io-2023-11-10", "../../../wit/keyvalue-g1", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/legacy.rs");

use wasi::io::streams;
use wasi::keyvalue::atomic;

mod backend {
    pub use crate::wasi::keyvalue::types::Bucket;
    use crate::wasi::keyvalue::wasi_cloud_error::Error;
    pub use crate::wasi::keyvalue::{batch as batch, readwrite as single};

    include!("../../common/values.rs");

    // In this generation a missing key is an error, and one missing key fails a whole batch.
    pub fn incoming(bucket: &Bucket, key: &str) -> Result<Option<IncomingValue>, String> {
        match single::get(bucket, key).map_err(text) {
            Ok(value) => Ok(Some(value)),
            Err(words) if words == "Key not found" => Ok(None),
            Err(words) => Err(words),
        }
    }

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        match batch::get_many(bucket, keys).map_err(text) {
            Ok(values) => values.into_iter().map(|value| body(value).map(Some)).collect(),
            Err(words) if words == "Key not found" => keys.iter().map(|key| get(bucket, key)).collect(),
            Err(words) => Err(words),
        }
    }

    pub fn keys(bucket: &Bucket) -> Result<Vec<String>, String> {
        Ok(batch::get_keys(bucket))
    }
}
