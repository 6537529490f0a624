// What all generations share; each crate brings a module `backend` with the plain operations.
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Component;

use exports::perdure::tests::kv::Seen;

fn look(bucket: &backend::Bucket, key: &str) -> Result<Seen, String> {
    let keys = backend::keys(bucket)?;
    Ok(Seen {
        value: backend::get(bucket, key)?,
        in_batch: backend::get_many(bucket, &[key.to_string()])?.remove(0),
        exists: backend::exists(bucket, key)?,
        listed: keys.iter().any(|known| known == key),
        keys: keys.len() as u32,
    })
}

impl exports::perdure::tests::kv::Guest for Component {
    fn get(bucket: String, key: String) -> Result<Option<Vec<u8>>, String> {
        backend::get(&backend::open(&bucket)?, &key)
    }

    fn set(bucket: String, key: String, value: Vec<u8>) -> Result<(), String> {
        backend::set(&backend::open(&bucket)?, &key, &value)
    }

    fn delete(bucket: String, key: String) -> Result<(), String> {
        backend::delete(&backend::open(&bucket)?, &key)
    }

    fn exists(bucket: String, key: String) -> Result<bool, String> {
        backend::exists(&backend::open(&bucket)?, &key)
    }

    fn keys(bucket: String) -> Result<Vec<String>, String> {
        backend::keys(&backend::open(&bucket)?)
    }

    fn get_many(bucket: String, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, String> {
        backend::get_many(&backend::open(&bucket)?, &keys)
    }

    fn set_many(bucket: String, entries: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        backend::set_many(&backend::open(&bucket)?, &entries)
    }

    fn delete_many(bucket: String, keys: Vec<String>) -> Result<(), String> {
        backend::delete_many(&backend::open(&bucket)?, &keys)
    }

    fn rewrite(bucket: String, view: String, key: String, value: Vec<u8>) -> Result<Vec<Seen>, String> {
        let (bucket, view) = (backend::open(&bucket)?, backend::open(&view)?);
        let before = look(&view, &key)?;
        backend::set(&bucket, &key, &value)?;
        let written = look(&view, &key)?;
        backend::delete(&bucket, &key)?;
        Ok(vec![before, written, look(&view, &key)?])
    }

    fn increment(bucket: String, key: String) -> Result<u64, String> {
        let bucket = backend::open(&bucket)?;
        let text = backend::get(&bucket, &key)?.unwrap_or_else(|| b"0".to_vec());
        let number: u64 = String::from_utf8_lossy(&text).parse().map_err(|_| "not a number".to_string())?;
        backend::set(&bucket, &key, (number + 1).to_string().as_bytes())?;
        CALLS.with(|calls| calls.set(calls.get() + 1));
        Ok(number + 1)
    }

    fn calls() -> u64 {
        CALLS.with(Cell::get)
    }
}

export!(Component);
