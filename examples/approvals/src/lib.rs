//! Purchases as durable workflows, written as if no process ever died. Each part of `perdure:durable` is in use: who one is,
//! a promise that somebody completes, a call of another instance, the state that survives an update.

use std::cell::RefCell;
use std::thread::sleep;
use std::time::Duration;

wit_bindgen::generate!({
    world: "perdure:examples/approvals-example",
    path: ["../../wit/keyvalue-g3", "../../wit/perdure-durable", "wit"],
    generate_all,
});

use exports::perdure::durable::snapshot;
use exports::perdure::examples::approvals::Guest;
use perdure::durable::{calls, context, promises};
use wasi::keyvalue::store::{self, Bucket, Error};

const TRIES: u32 = 100;

struct Component;

/// A budget lives in the memory of its instance, which is as durable as a bucket.
#[derive(Default)]
struct Budget {
    left: u64,
    payments: Vec<u64>,
}

thread_local! {
    static BUDGET: RefCell<Budget> = RefCell::default();
}

impl Guest for Component {
    fn buy(what: String, cost: u64, budget: String) -> Result<u64, String> {
        let approver = approval(&format!("{cost} of {budget} for {what}"))?;
        for _ in 0..TRIES {
            if let Some(left) = pay(&budget, cost)? {
                // It is paid, and a call that traps is tried again from its beginning: from here on nothing may panic.
                let note = format!("{cost} of {budget} for {what}, approved by {approver}");
                open("purchases")?.set(&context::instance(), note.as_bytes()).map_err(words)?;
                return Ok(left);
            }
            // Not begun again when the host dies. The instance leaves memory meanwhile, if it is for more than ten seconds.
            sleep(interval());
        }
        Err(format!("{budget} could not pay"))
    }

    fn grant(amount: u64) -> u64 {
        BUDGET.with_borrow_mut(|budget| {
            // A panic is a trap: the call fails, and has changed nothing.
            budget.left = budget.left.checked_add(amount).expect("no budget is that large");
            budget.left
        })
    }

    // Calls of one instance run one after another: nobody else spends between the comparison and the subtraction.
    fn spend(amount: u64) -> Option<u64> {
        BUDGET.with_borrow_mut(|budget| {
            budget.left = budget.left.checked_sub(amount)?;
            budget.payments.push(amount);
            Some(budget.left)
        })
    }

    fn payments() -> Vec<u64> {
        BUDGET.with_borrow(|budget| budget.payments.clone())
    }
}

/// Lets somebody know what is asked for, and waits for as long as it takes. Whoever has the promise's id may complete it:
/// with a name, or with a failure that says why not.
fn approval(request: &str) -> Result<String, String> {
    let me = context::instance();
    let waiting = open("waiting")?;
    let id = promises::create();
    waiting.set(&me, id.as_bytes()).map_err(words)?;
    waiting.set(&format!("{me}/request"), request.as_bytes()).map_err(words)?;
    // From here on the promise and both keys are durable, and none of this is done again.
    let answer = promises::wait(&id);
    waiting.delete(&me).map_err(words)?;
    waiting.delete(&format!("{me}/request")).map_err(words)?;
    match answer {
        Ok(name) => Ok(String::from_utf8_lossy(&name).into_owned()),
        Err(promises::Error::Failed(why)) => Err(format!("rejected: {why}")),
        Err(promises::Error::NoSuchPromise) => Err("the promise is gone".to_string()),
    }
}

/// Has the instance `budget` spend `cost`: once, though both hosts may die. Arguments and results are JSON, as in the HTTP
/// API; those of numbers need no library.
fn pay(budget: &str, cost: u64) -> Result<Option<u64>, String> {
    match calls::call(budget, "spend", &format!("[{cost}]")) {
        Ok(left) => Ok(left.parse().ok()), // `null` is none
        Err(calls::Error::Failed(failure)) => Err(format!("{budget}: {}", failure.detail)),
        Err(error) => Err(format!("{budget} cannot be asked: {error:?}")),
    }
}

/// `spec.env` of the manifest.
fn interval() -> Duration {
    let seconds = std::env::var("RETRY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3600))
}

/// With `update: Migrate`, the next version of the component takes over what this one saves.
impl snapshot::Guest for Component {
    fn save() -> Vec<u8> {
        BUDGET.with_borrow(|budget| {
            let numbers = std::iter::once(&budget.left).chain(&budget.payments);
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        })
    }

    fn load(state: Vec<u8>) -> Result<(), String> {
        let numbers = state.chunks(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes));
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().map_err(|_| "the state is not made of numbers")?;
        let (left, payments) = numbers.split_first().ok_or("the state is empty")?;
        BUDGET.set(Budget { left: *left, payments: payments.to_vec() });
        Ok(())
    }
}

fn open(bucket: &str) -> Result<Bucket, String> {
    store::open(bucket).map_err(words)
}

fn words(error: Error) -> String {
    match error {
        Error::NoSuchStore => "the Worker's manifest has no such bucket".to_string(),
        Error::AccessDenied => "the Worker may not do that with the bucket".to_string(),
        Error::Other(words) => words,
    }
}

export!(Component);
