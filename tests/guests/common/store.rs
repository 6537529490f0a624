// Of the guests of generations 3 and 4, which differ in what a cursor is: `page` is the crate's.

mod backend {
    use crate::wasi::keyvalue::batch;
    pub use crate::wasi::keyvalue::store::Bucket;
    use crate::wasi::keyvalue::store::{self, Error};

    fn text(error: Error) -> String {
        match error {
            Error::NoSuchStore => "no such store".to_string(),
            Error::AccessDenied => "access denied".to_string(),
            Error::Other(words) => words,
        }
    }

    pub fn open(name: &str) -> Result<Bucket, String> {
        store::open(name).map_err(text)
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
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = crate::page(bucket, cursor).map_err(text)?;
            found.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let found = batch::get_many(bucket, keys).map_err(text)?;
        Ok(found.into_iter().map(|entry| entry.map(|(_, value)| value)).collect())
    }

    pub fn set_many(bucket: &Bucket, entries: &[(String, Vec<u8>)]) -> Result<(), String> {
        batch::set_many(bucket, entries).map_err(text)
    }

    pub fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), String> {
        batch::delete_many(bucket, keys).map_err(text)
    }
}
