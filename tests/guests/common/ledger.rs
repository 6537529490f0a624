// The ledger, whose version is the constant of whoever includes this.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

wit_bindgen::generate!({
    world: "perdure:ledger/ledger",
    path: ["../../../wit/keyvalue-g4", "../../../wit/perdure-durable", "../ledger/wit"],
    generate_all,
});

use exports::perdure::durable::snapshot;
use exports::perdure::ledger::program::{self, Outcome, Step};
use wasi::keyvalue::atomics::{self, Cas, CasError};
use wasi::keyvalue::store::{self, Bucket, Error};

#[derive(Default)]
struct Memory {
    sum: i64,
    ended: u64,
    digest: u64,
    hoard: Vec<Vec<u8>>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

fn mix(bytes: &[u8]) {
    MEMORY.with_borrow_mut(|memory| {
        for byte in bytes {
            memory.digest = (memory.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    });
}

fn text(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".to_string(),
        Error::AccessDenied => "access denied".to_string(),
        Error::Other(words) => words,
    }
}

fn refused(error: Error) -> Outcome {
    Outcome::Refused(text(error))
}

fn open(name: &str) -> Bucket {
    store::open(name).unwrap_or_else(|error| panic!("open: {}", text(error)))
}

fn swap(bucket: &Bucket, key: &str, value: &[u8]) -> Result<Outcome, Error> {
    let mut cas = Cas::new(bucket, key)?;
    loop {
        let current = cas.current()?;
        match atomics::swap(cas, value) {
            Ok(()) => return Ok(Outcome::Value(current)),
            Err(CasError::CasFailed(next)) => cas = next,
            Err(CasError::StoreError(error)) => return Err(error),
        }
    }
}

fn carry_out(step: Step) -> Outcome {
    let done = match step {
        Step::Put((bucket, key, value)) => open(&bucket).set(&key, &value).map(|()| Outcome::Nothing),
        Step::Remove((bucket, key)) => open(&bucket).delete(&key).map(|()| Outcome::Nothing),
        Step::Get((bucket, key)) => open(&bucket).get(&key).map(Outcome::Value),
        Step::Add((bucket, key, delta)) => atomics::increment(&open(&bucket), &key, delta).map(Outcome::Number),
        Step::Swap((bucket, key, value)) => swap(&open(&bucket), &key, &value),
        Step::Remember(number) => Ok(Outcome::Number(MEMORY.with_borrow_mut(|memory| {
            memory.sum = memory.sum.wrapping_add(number);
            memory.sum
        }))),
        Step::Tick => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            mix(&now.as_nanos().to_le_bytes());
            Ok(Outcome::Nothing)
        }
        Step::Work(thousands) => {
            for round in 0..u64::from(thousands) * 1000 {
                mix(&[round as u8]);
            }
            Ok(Outcome::Nothing)
        }
        Step::Hoard(bytes) => {
            MEMORY.with_borrow_mut(|memory| memory.hoard.push(vec![memory.ended as u8 | 1; bytes as usize]));
            Ok(Outcome::Nothing)
        }
        Step::Sleep(milliseconds) => {
            std::thread::sleep(Duration::from_millis(milliseconds.into()));
            Ok(Outcome::Nothing)
        }
        Step::Trap => panic!("told to"),
        Step::Spin => loop {
            mix(b"spin");
        },
    };
    done.unwrap_or_else(refused)
}

struct Ledger;

impl program::Guest for Ledger {
    fn run(steps: Vec<Step>) -> Vec<Outcome> {
        let outcomes: Vec<Outcome> = steps
            .into_iter()
            .map(|step| {
                let outcome = carry_out(step);
                match &outcome {
                    Outcome::Nothing => mix(b"n"),
                    Outcome::Value(None) => mix(b"m"),
                    Outcome::Value(Some(bytes)) => mix(bytes),
                    Outcome::Number(number) => mix(&number.to_le_bytes()),
                    Outcome::Refused(words) => mix(words.as_bytes()),
                }
                outcome
            })
            .collect();
        MEMORY.with_borrow_mut(|memory| memory.ended += 1);
        outcomes
    }

    fn memory() -> (i64, u64, u64) {
        MEMORY.with_borrow(|memory| (memory.sum, memory.ended, memory.digest))
    }

    fn version() -> u32 {
        VERSION
    }
}

impl snapshot::Guest for Ledger {
    fn save() -> Vec<u8> {
        MEMORY.with_borrow(|memory| format!("{} {}", memory.sum, memory.ended).into_bytes())
    }

    fn load(state: Vec<u8>) -> Result<(), String> {
        let words = String::from_utf8(state).map_err(|error| error.to_string())?;
        let (sum, ended) = words.split_once(' ').ok_or("two numbers are needed")?;
        let sum: i64 = sum.parse().map_err(|_| "the sum is no number")?;
        if sum < 0 {
            return Err("this version knows no debts".to_string());
        }
        MEMORY.with_borrow_mut(|memory| {
            memory.sum = sum;
            memory.ended = ended.parse().unwrap_or(0);
        });
        Ok(())
    }
}

export!(Ledger);
