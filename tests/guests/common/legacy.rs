// Programs over what only the first two generations have; after `api.rs`.
thread_local! {
    static SUM: Cell<u64> = const { Cell::new(0) };
}

use exports::perdure::tests::legacy::{Outcome, Step};

fn carry_out(step: Step) -> Result<Outcome, String> {
    Ok(match step {
        Step::Get((bucket, key)) => Outcome::Value(backend::get(&backend::open(&bucket)?, &key)?),
        Step::Set((bucket, key, value)) => {
            backend::set(&backend::open(&bucket)?, &key, &value)?;
            Outcome::Nothing
        }
        Step::Add((bucket, key, delta)) => {
            Outcome::Number(atomic::increment(&backend::open(&bucket)?, &key, delta).map_err(backend::text)?)
        }
        Step::CompareAndSwap((bucket, key, old, new)) => {
            let bucket = backend::open(&bucket)?;
            Outcome::Truth(atomic::compare_and_swap(&bucket, &key, old, new).map_err(backend::text)?)
        }
        Step::Remember(number) => Outcome::Number(SUM.with(|sum| {
            sum.set(sum.get() + number);
            sum.get()
        })),
    })
}

impl exports::perdure::tests::legacy::Guest for Component {
    fn run(steps: Vec<Step>) -> Vec<Outcome> {
        steps.into_iter().map(|step| carry_out(step).unwrap_or_else(Outcome::Refused)).collect()
    }
}
