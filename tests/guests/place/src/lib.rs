//! A guest that looks around and remembers what it saw.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};

wit_bindgen::generate!({
    world: "perdure:place/guest",
    path: ["../../../wit/wasi-config", "../../../wit/wasi-logging", "wit"],
    generate_all,
});

use exports::perdure::place::place::Guest;
use wasi::config::store;
use wasi::logging::logging::{self, Level};

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static KEPT: RefCell<Option<File>> = const { RefCell::new(None) };
}

fn saw<T>(what: T) -> T
where
    T: std::fmt::Debug,
{
    SEEN.with_borrow_mut(|seen| seen.push(format!("{what:?}")));
    what
}

fn told<T>(found: std::io::Result<T>) -> Result<T, String> {
    found.map_err(|error| error.kind().to_string())
}

struct Component;

impl Guest for Component {
    fn setting(key: String) -> Option<String> {
        saw(store::get(&key).unwrap())
    }

    fn settings() -> Vec<(String, String)> {
        saw(store::get_all().unwrap())
    }

    fn seen() -> Vec<String> {
        SEEN.with_borrow(Vec::clone)
    }

    fn log(level: u8, context: String, message: String) {
        let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical];
        logging::log(levels[level as usize], &context, &message);
    }

    fn read(path: String) -> Result<Vec<u8>, String> {
        saw(told(fs::read(path)))
    }

    fn read_some(path: String, offset: u64, length: u32) -> Result<Vec<u8>, String> {
        let mut file = told(File::open(path))?;
        told(file.seek(SeekFrom::Start(offset)))?;
        let mut data = vec![0; length as usize];
        let count = told(file.read(&mut data))?;
        data.truncate(count);
        saw(Ok(data))
    }

    fn entries(path: String) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for entry in told(fs::read_dir(path))? {
            let entry = told(entry)?;
            let slash = if told(entry.file_type())?.is_dir() { "/" } else { "" };
            names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
        }
        names.sort();
        saw(Ok(names))
    }

    fn about(path: String) -> Result<(u64, bool), String> {
        saw(told(fs::metadata(path)).map(|found| (found.len(), found.is_dir())))
    }

    fn changes(path: String) -> Vec<String> {
        let beside = format!("{path}.new");
        let results = [
            fs::write(&path, b"x"),
            fs::write(&beside, b"x"),
            OpenOptions::new().append(true).open(&path).map(drop),
            fs::remove_file(&path),
            fs::rename(&path, &beside),
            fs::create_dir(&beside),
            fs::remove_dir(&path),
            fs::hard_link(&path, &beside),
        ];
        results.into_iter().map(|result| told(result).err().unwrap_or_else(|| "done".to_string())).collect()
    }

    fn keep(path: String) -> Result<u32, String> {
        let file = told(File::open(path))?;
        KEPT.with_borrow_mut(|kept| *kept = Some(file));
        Ok(1)
    }

    fn next(length: u32) -> Result<Vec<u8>, String> {
        KEPT.with_borrow_mut(|kept| {
            let mut data = vec![0; length as usize];
            let count = told(kept.as_mut().ok_or("nothing is kept")?.read(&mut data))?;
            data.truncate(count);
            saw(Ok(data))
        })
    }
}

export!(Component);
