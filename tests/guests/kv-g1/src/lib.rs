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
    use crate::wasi::keyvalue::types::{IncomingValue, OutgoingValue};
    use crate::wasi::keyvalue::wasi_cloud_error::Error;
    pub use crate::wasi::keyvalue::{batch as batch, readwrite as single};

    pub fn text(error: Error) -> String {
        error.trace()
    }

    fn body(value: IncomingValue) -> Result<Vec<u8>, String> {
        value.incoming_value_consume_sync().map_err(text)
    }

    fn outgoing(value: &[u8]) -> Result<OutgoingValue, String> {
        let outgoing = OutgoingValue::new_outgoing_value();
        outgoing.outgoing_value_write_body_sync(value).map_err(text)?;
        Ok(outgoing)
    }

    pub fn open(name: &str) -> Result<Bucket, String> {
        Bucket::open_bucket(name).map_err(text)
    }

    // In this generation a missing key is an error, and one missing key fails a whole batch.
    pub fn incoming(bucket: &Bucket, key: &str) -> Result<Option<IncomingValue>, String> {
        match single::get(bucket, key).map_err(text) {
            Ok(value) => Ok(Some(value)),
            Err(words) if words == "Key not found" => Ok(None),
            Err(words) => Err(words),
        }
    }

    pub fn get(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, String> {
        incoming(bucket, key)?.map(body).transpose()
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

    pub fn set(bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), String> {
        single::set(bucket, key, &outgoing(value)?).map_err(text)
    }

    pub fn delete(bucket: &Bucket, key: &str) -> Result<(), String> {
        single::delete(bucket, key).map_err(text)
    }

    pub fn exists(bucket: &Bucket, key: &str) -> Result<bool, String> {
        single::exists(bucket, key).map_err(text)
    }

    pub fn set_many(bucket: &Bucket, entries: &[(String, Vec<u8>)]) -> Result<(), String> {
        let values = entries.iter().map(|(_, value)| outgoing(value)).collect::<Result<Vec<_>, _>>()?;
        let pairs: Vec<_> = entries.iter().zip(&values).map(|((key, _), value)| (key.clone(), value)).collect();
        batch::set_many(bucket, &pairs).map_err(text)
    }

    pub fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), String> {
        batch::delete_many(bucket, keys).map_err(text)
    }
}
