//! A guest that misbehaves on request.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

wit_bindgen::generate!({ world: "perdure:trouble/guest", path: "wit" });

use exports::perdure::trouble::trouble::Guest;

struct Component;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static DRAWN: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Component {
    fn spin() {
        loop {
            black_box(());
        }
    }

    fn sleep(milliseconds: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(milliseconds));
        COUNT.with(|count| count.set(count.get() + 1));
        Self::counted()
    }

    fn allocate(mebibytes: u32) -> u64 {
        let block = vec![1u8; (mebibytes as usize) << 20];
        KEPT.with_borrow_mut(|kept| {
            kept.push(block);
            kept.iter().map(|block| block.len() as u64).sum()
        })
    }

    fn recurse(depth: u64) -> u64 {
        let page = black_box([depth; 64]);
        if depth == u64::MAX {
            return page[0];
        }
        Self::recurse(depth + 1).wrapping_add(black_box(page)[1])
    }

    fn panic(text: String) {
        panic!("{text}")
    }

    fn say(text: String) {
        println!("{text}");
    }

    fn draw() -> (u64, u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        // The keys of a hash map's first hasher come from wasi:random.
        let pair = (now, RandomState::new().hash_one(DRAWN.with_borrow(Vec::len)));
        DRAWN.with_borrow_mut(|drawn| drawn.push(pair));
        pair
    }

    fn drawn() -> Vec<(u64, u64)> {
        DRAWN.with_borrow(Vec::clone)
    }

    fn variable(name: String) -> Option<String> {
        std::env::var(name).ok()
    }

    fn counted() -> u64 {
        COUNT.with(Cell::get)
    }
}

export!(Component);
