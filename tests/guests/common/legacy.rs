// Programs over what only the first two generations have; after `api.rs`.
thread_local! {
    static SUM: Cell<u64> = const { Cell::new(0) };
    static KEPT: RefCell<Option<(OutputStream, OutgoingValue)>> = const { RefCell::new(None) };
}

use std::cell::RefCell;

use exports::perdure::tests::legacy::{Outcome, Step};
use streams::{OutputStream, StreamError};
use wasi::keyvalue::types::OutgoingValue;

fn broken(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".to_string(),
    }
}

// As the interface wants it: no more at once than it permits, after waiting until it permits something.
fn write_all(stream: &OutputStream, mut left: &[u8]) -> Result<(), String> {
    while !left.is_empty() {
        stream.subscribe().block();
        let permitted = stream.check_write().map_err(broken)? as usize;
        let piece = &left[..permitted.min(left.len())];
        stream.write(piece).map_err(broken)?;
        left = &left[piece.len()..];
    }
    stream.flush().map_err(broken)
}

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
        Step::WriteStream((bucket, key, pieces)) => {
            let bucket = backend::open(&bucket)?;
            let value = OutgoingValue::new_outgoing_value();
            let stream = value.outgoing_value_write_body_async().map_err(backend::text)?;
            for piece in pieces {
                write_all(&stream, &piece)?;
            }
            drop(stream);
            backend::single::set(&bucket, &key, &value).map_err(backend::text)?;
            Outcome::Nothing
        }
        Step::ReadStream((bucket, key, length)) => {
            let bucket = backend::open(&bucket)?;
            let Some(value) = backend::incoming(&bucket, &key)? else { return Ok(Outcome::Value(None)) };
            let stream = value.incoming_value_consume_async().map_err(backend::text)?;
            let mut found = Vec::new();
            loop {
                match stream.blocking_read(length) {
                    Ok(piece) => found.extend(piece),
                    Err(StreamError::Closed) => return Ok(Outcome::Value(Some(found))),
                    Err(error) => return Err(broken(error)),
                }
            }
        }
        Step::BeginValue(piece) => {
            let value = OutgoingValue::new_outgoing_value();
            let stream = value.outgoing_value_write_body_async().map_err(backend::text)?;
            write_all(&stream, &piece)?;
            KEPT.set(Some((stream, value)));
            Outcome::Nothing
        }
        Step::EndValue((bucket, key, piece)) => {
            let (stream, value) = KEPT.take().ok_or("no value was begun")?;
            write_all(&stream, &piece)?;
            backend::single::set(&backend::open(&bucket)?, &key, &value).map_err(backend::text)?;
            Outcome::Nothing
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
