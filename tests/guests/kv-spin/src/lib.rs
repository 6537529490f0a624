//! The tests' functions over Spin's own interface, which has no batches: those are one operation after the other.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../wit", "wit/spin", "wit"],
    generate_all,
});

include!("../../common/api.rs");

mod backend {
    use crate::fermyon::spin::key_value::Error;
    pub use crate::fermyon::spin::key_value::Store as Bucket;
    use crate::fermyon::spin::variables;

    fn text(error: Error) -> String {
        match error {
            Error::StoreTableFull => "store table full".to_string(),
            Error::NoSuchStore => "no such store".to_string(),
            Error::AccessDenied => "access denied".to_string(),
            Error::Other(words) => words,
        }
    }

    /// The store "of variables" is one whose name another interface knows.
    pub fn open(name: &str) -> Result<Bucket, String> {
        if name == "of variables" {
            return Bucket::open(&variables::get("name").unwrap_or_default()).map_err(text);
        }
        Bucket::open(name).map_err(text)
    }

    pub fn get(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, String> {
        bucket.get(key).map_err(text)
    }

    pub fn set(bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), String> {
        bucket.set(key, value).map_err(text)
    }

    pub fn delete(bucket: &Bucket, key: &str) -> Result<(), String> {
        bucket.delete(key).map_err(text)
    }

    pub fn exists(bucket: &Bucket, key: &str) -> Result<bool, String> {
        bucket.exists(key).map_err(text)
    }

    pub fn keys(bucket: &Bucket) -> Result<Vec<String>, String> {
        bucket.get_keys().map_err(text)
    }

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        keys.iter().map(|key| get(bucket, key)).collect()
    }

    pub fn set_many(bucket: &Bucket, entries: &[(String, Vec<u8>)]) -> Result<(), String> {
        entries.iter().try_for_each(|(key, value)| set(bucket, key, value))
    }

    pub fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), String> {
        keys.iter().try_for_each(|key| delete(bucket, key))
    }
}
