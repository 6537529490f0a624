// Programs over what only the first two generations have; after `api.rs`.
thread_local! {
    static SUM: Cell<u64> = const { Cell::new(0) };
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
    static KEPT: RefCell<Option<(OutputStream, OutgoingValue)>> = const { RefCell::new(None) };
}

use std::cell::RefCell;

use exports::perdure::tests::legacy::{Outcome, Step};
use streams::{OutputStream, StreamError};
use wasi::keyvalue::cache::{self, FutureGetOrSetResult, GetOrSetEntry, Vacancy};
use wasi::keyvalue::types::{IncomingValue, OutgoingValue};

enum Claim {
    Waiting(FutureGetOrSetResult),
    Vacant(Vacancy),
}

fn broken(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".to_string(),
    }
}

fn outgoing(value: &[u8]) -> Result<OutgoingValue, String> {
    let outgoing = OutgoingValue::new_outgoing_value();
    outgoing.outgoing_value_write_body_sync(value).map_err(backend::text)?;
    Ok(outgoing)
}

fn bytes(value: IncomingValue) -> Result<Outcome, String> {
    Ok(Outcome::Value(Some(value.incoming_value_consume_sync().map_err(backend::text)?)))
}

fn entry(future: &FutureGetOrSetResult) -> Option<Result<GetOrSetEntry, String>> {
    future.future_get_or_set_result_get().map(|result| result.map_err(backend::text))
}

fn waited(future: &FutureGetOrSetResult) -> Result<GetOrSetEntry, String> {
    future.listen_to_future_get_or_set_result().block();
    entry(future).unwrap_or(Err("a future that was ready has nothing".to_string()))
}

fn fill(vacancy: &Vacancy, value: &[u8], ttl: Option<u32>, streamed: bool) -> Result<Outcome, String> {
    let body = vacancy.vacancy_fill(ttl);
    if streamed {
        let stream = body.outgoing_value_write_body_async().map_err(backend::text)?;
        for piece in value.chunks(2) {
            write_all(&stream, piece)?;
        }
    } else {
        body.outgoing_value_write_body_sync(value).map_err(backend::text)?;
    }
    Ok(Outcome::Filled)
}

fn settle(found: GetOrSetEntry, value: &[u8], ttl: Option<u32>, streamed: bool) -> Result<Outcome, String> {
    match found {
        GetOrSetEntry::Occupied(value) => bytes(value),
        GetOrSetEntry::Vacant(vacancy) => fill(&vacancy, value, ttl, streamed),
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
        Step::CacheGet(key) => {
            let future = cache::get(&key);
            future.listen_to_future_get_result().block();
            match future.future_get_result_get().ok_or("not ready")?.map_err(backend::text)? {
                Some(value) => bytes(value)?,
                None => Outcome::Value(None),
            }
        }
        Step::CacheExists(key) => {
            let future = cache::exists(&key);
            future.listen_to_future_exists_result().block();
            Outcome::Truth(future.future_exists_result_get().ok_or("not ready")?.map_err(backend::text)?)
        }
        Step::CacheSet((key, value, ttl)) => {
            let future = cache::set(&key, &outgoing(&value)?, ttl);
            future.listen_to_future_result().block();
            future.future_result_get().ok_or("not ready")?.map_err(backend::text)?;
            Outcome::Nothing
        }
        Step::CacheDelete(key) => {
            let future = cache::delete(&key);
            future.listen_to_future_result().block();
            future.future_result_get().ok_or("not ready")?.map_err(backend::text)?;
            Outcome::Nothing
        }
        Step::GetOrSet((key, value, ttl)) => settle(waited(&cache::get_or_set(&key))?, &value, ttl, false)?,
        Step::GetOrStream((key, value, ttl)) => settle(waited(&cache::get_or_set(&key))?, &value, ttl, true)?,
        Step::Claim(key) => {
            let future = cache::get_or_set(&key);
            match entry(&future).transpose()? {
                Some(GetOrSetEntry::Occupied(value)) => return bytes(value),
                Some(GetOrSetEntry::Vacant(vacancy)) => {
                    CLAIM.set(Some(Claim::Vacant(vacancy)));
                    Outcome::Truth(true)
                }
                None => {
                    CLAIM.set(Some(Claim::Waiting(future)));
                    Outcome::Truth(false)
                }
            }
        }
        Step::Settle((value, ttl)) => match CLAIM.take().ok_or("nothing was kept")? {
            Claim::Waiting(future) => settle(waited(&future)?, &value, ttl, false)?,
            Claim::Vacant(vacancy) => fill(&vacancy, &value, ttl, false)?,
        },
        Step::GiveUp => {
            CLAIM.take();
            Outcome::Nothing
        }
        Step::Sleep(milliseconds) => {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds.into()));
            Outcome::Nothing
        }
        Step::Trap => panic!("told to"),
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
