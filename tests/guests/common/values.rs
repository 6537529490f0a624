// Of the backends of generations 1 and 2, which differ in their errors and in what a missing key is: `Bucket`, `Error`,
// `single`, `batch` and `incoming` are theirs.

use crate::wasi::keyvalue::types::{IncomingValue, OutgoingValue};

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

pub fn get(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, String> {
    incoming(bucket, key)?.map(body).transpose()
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
