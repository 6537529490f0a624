//! State of every kind, from one call to the next: numbers, maps, memory, handles of the host's and of its own.

wit_bindgen::generate!({ world: "perdure:state/guest-with-cells", path: "wit" });

use std::cell::{Cell as Value, RefCell};
use std::collections::BTreeMap;

use exports::perdure::state::cells::{Cell, Guest as Cells, GuestCell};
use exports::perdure::state::state::Guest as State;
use perdure::state::host::{now, random, Note};

#[derive(Default)]
struct Kept {
    count: u64,
    mixed: u64,
    entries: BTreeMap<String, String>,
    blocks: Vec<Vec<u8>>,
    notes: Vec<Note>,
    cells: Vec<Cell>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

fn kept<T>(work: impl FnOnce(&mut Kept) -> T) -> T {
    KEPT.with(|kept| work(&mut kept.borrow_mut()))
}

struct Component;

impl State for Component {
    fn count() -> u64 {
        kept(|k| {
            k.count += 1;
            k.count
        })
    }

    fn remember(key: String, value: String) -> u32 {
        kept(|k| {
            k.entries.insert(key, value);
            k.entries.len() as u32
        })
    }

    fn recall(key: String) -> Option<String> {
        kept(|k| k.entries.get(&key).cloned())
    }

    fn forget(key: String) -> bool {
        kept(|k| k.entries.remove(&key).is_some())
    }

    fn churn(rounds: u32) -> u64 {
        let items: Vec<String> = (0..rounds).map(|round| round.to_string().repeat(3)).collect();
        items.iter().map(|item| item.len() as u64).sum()
    }

    fn grow(size: u32) -> u64 {
        kept(|k| {
            let fill = k.blocks.len() as u8;
            k.blocks.push(vec![fill; size as usize]);
            k.blocks.iter().map(|block| block.len() as u64).sum()
        })
    }

    fn stamp() -> u64 {
        kept(|k| {
            k.mixed = k.mixed.rotate_left(7) ^ now() ^ random();
            k.mixed
        })
    }

    fn hold(name: String) -> u32 {
        kept(|k| {
            k.notes.push(Note::new(&name));
            k.notes.len() as u32
        })
    }

    fn write(index: u32, text: String) -> u32 {
        kept(|k| k.notes[index as usize].append(&text))
    }

    fn release() -> u32 {
        kept(|k| {
            k.notes.pop();
            k.notes.len() as u32
        })
    }
}

struct Tally(Value<u64>);

impl GuestCell for Tally {
    fn new(value: u64) -> Self {
        Tally(Value::new(value))
    }

    fn add(&self, value: u64) -> u64 {
        self.0.set(self.0.get() + value);
        self.0.get()
    }
}

impl Cells for Component {
    type Cell = Tally;

    fn keep(cell: Cell) -> u32 {
        kept(|k| {
            k.cells.push(cell);
            k.cells.len() as u32
        })
    }

    fn make(value: u64) -> u32 {
        Self::keep(Cell::new(Tally::new(value)))
    }

    fn take() -> Option<Cell> {
        kept(|k| k.cells.pop())
    }

    fn total() -> u64 {
        kept(|k| k.cells.iter().map(|cell| cell.get::<Tally>().0.get()).sum())
    }
}

export!(Component);
