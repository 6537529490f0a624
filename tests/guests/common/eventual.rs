// Of the guests of generation 2.

mod backend {
    pub use crate::wasi::keyvalue::types::Bucket;
    use crate::wasi::keyvalue::wasi_keyvalue_error::Error;
    pub use crate::wasi::keyvalue::{eventual_batch as batch, eventual as single};

    include!("values.rs");

    pub fn incoming(bucket: &Bucket, key: &str) -> Result<Option<IncomingValue>, String> {
        single::get(bucket, key).map_err(text)
    }

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let found = batch::get_many(bucket, keys).map_err(text)?;
        found.into_iter().map(|value| value.map(body).transpose()).collect()
    }

    pub fn keys(bucket: &Bucket) -> Result<Vec<String>, String> {
        batch::keys(bucket).map_err(text)
    }
}
