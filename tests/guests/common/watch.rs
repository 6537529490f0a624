// What a watching guest does when it is told of a change; after `api.rs`.
//
// In the bucket `seen` it writes under `00000`, `00001`, …, counted in its memory: the key, `=` and the value, or `gone`;
// then, in brackets, what the key holds when it is told, by the handle it was given. A value `trap` makes it trap. A key
// under `echo/` makes it set the same key under `echoed/`, in the watched bucket.
thread_local! {
    static TOLD: Cell<u32> = const { Cell::new(0) };
}

fn told(bucket: &backend::Bucket, key: &str, value: Option<Vec<u8>>) {
    let text = |bytes: Option<Vec<u8>>| match bytes {
        Some(bytes) => format!("={}", String::from_utf8_lossy(&bytes)),
        None => " gone".to_string(),
    };
    if value.as_deref() == Some(b"trap".as_slice()) {
        panic!("told to trap");
    }
    if let (Some(rest), Some(value)) = (key.strip_prefix("echo/"), &value) {
        backend::set(bucket, &format!("echoed/{rest}"), value).unwrap();
    }
    let now = backend::get(bucket, key).unwrap();
    let line = format!("{key}{} [{}]", text(value), text(now).trim_start());
    let number = TOLD.with(|told| told.replace(told.get() + 1));
    let seen = backend::open("seen").unwrap();
    backend::set(&seen, &format!("{number:05}"), line.as_bytes()).unwrap();
}
