//! A command: a program with `main` that uses what Rust's library brings, and ends as a bucket says.

use std::collections::HashSet;
use std::net::{TcpStream, UdpSocket};
use std::process::exit;
use std::time::{Duration, Instant, SystemTime};

wit_bindgen::generate!({
    world: "perdure:command/guest",
    path: ["../../../wit/keyvalue-g4", "wit"],
    generate_all,
});

use wasi::keyvalue::{atomics, store};

fn main() {
    // The set is hashed with random numbers.
    let arguments: HashSet<String> = std::env::args().collect();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    assert!(begun.elapsed() >= Duration::from_millis(1));
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH);
    assert!(std::fs::read("/missing").is_err() && std::fs::write("/missing", "").is_err());
    println!("{arguments:?} {}", std::env::vars().count());

    let Ok(bucket) = store::open("") else { exit(1) };
    let Ok(_) = atomics::increment(&bucket, "runs", 1) else { exit(1) };
    let Ok(end) = bucket.get("end") else { exit(1) };
    bucket.set("last", arguments.iter().next().unwrap().as_bytes()).unwrap();
    match end.as_deref() {
        None => {}
        Some(b"success") => exit(0),
        Some(b"failure") => exit(3),
        Some(b"connect") => drop(TcpStream::connect("127.0.0.1:80")),
        Some(b"bind") => drop(UdpSocket::bind("127.0.0.1:0")),
        Some(other) => panic!("{}", String::from_utf8_lossy(other)),
    }
}
