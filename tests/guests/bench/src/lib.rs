//! Crossings between guest and host with as little else as possible.

wit_bindgen::generate!({ world: "perdure:bench/bench", path: "wit" });

use perdure::bench::source;

struct Component;

fn length(key: &str) -> usize {
    source::get(key).map_or(0, |value| value.len())
}

impl Guest for Component {
    fn nop() {}

    fn echo(data: Vec<u8>) -> Vec<u8> {
        data
    }

    fn get(key: String) -> u32 {
        length(&key) as u32
    }

    fn get_many_times(times: u32, key: String) -> u64 {
        (0..times).map(|_| length(&key) as u64).sum()
    }
}

export!(Component);
