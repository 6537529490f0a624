//! The cache of wasi:keyvalue's first texts, whose futures and vacancies are numbers.

use std::cell::Cell;

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/io-2023-11-10", "wit/keyvalue", "wit"],
    generate_all,
});

use exports::perdure::guest::numbers::{Guest, Outcome, Step};
use wasi::keyvalue::cache::{self, GetOrSetEntry};
use wasi::keyvalue::types::{IncomingValue, OutgoingValue};
use wasi::keyvalue::wasi_cloud_error::Error;

thread_local! {
    static VACANCY: Cell<u32> = const { Cell::new(0) };
}

struct Component;

fn text(error: Error) -> String {
    error.trace()
}

fn value(value: Option<IncomingValue>) -> Result<Outcome, String> {
    value.map(|value| value.incoming_value_consume_sync().map_err(text)).transpose().map(Outcome::Value)
}

fn outgoing(value: &[u8]) -> Result<OutgoingValue, String> {
    let outgoing = OutgoingValue::new_outgoing_value();
    outgoing.outgoing_value_write_body_sync(value).map_err(text)?;
    Ok(outgoing)
}

fn entry(key: &str) -> Result<GetOrSetEntry, String> {
    let future = cache::get_or_set(key);
    cache::listen_to_future_get_or_set_result(future).block();
    let found = cache::future_get_or_set_result_get(future).ok_or("not ready")?.map_err(text);
    cache::drop_future_get_or_set_result(future);
    found
}

fn fill(vacancy: u32, value: &[u8]) -> Result<Outcome, String> {
    cache::vacancy_fill(vacancy, None).outgoing_value_write_body_sync(value).map_err(text)?;
    cache::drop_vacancy(vacancy);
    Ok(Outcome::Filled)
}

fn written(future: u32) -> Result<Outcome, String> {
    cache::listen_to_future_result(future).block();
    let written = cache::future_result_get(future).ok_or("not ready")?.map_err(text);
    cache::drop_future_result(future);
    written.map(|()| Outcome::Nothing)
}

fn carry_out(step: Step) -> Result<Outcome, String> {
    match step {
        Step::Get(key) => {
            let future = cache::get(&key);
            cache::listen_to_future_get_result(future).block();
            let found = cache::future_get_result_get(future).ok_or("not ready")?.map_err(text)?;
            cache::drop_future_get_result(future);
            value(found)
        }
        Step::Exists(key) => {
            let future = cache::exists(&key);
            cache::listen_to_future_exists_result(future).block();
            let found = cache::future_exists_result_get(future).ok_or("not ready")?.map_err(text)?;
            cache::drop_future_exists_result(future);
            Ok(Outcome::Truth(found))
        }
        Step::Set((key, value)) => written(cache::set(&key, outgoing(&value)?, None)),
        Step::Delete(key) => written(cache::delete(&key)),
        Step::Meet((key, data)) => match entry(&key)? {
            GetOrSetEntry::Occupied(found) => value(Some(found)),
            GetOrSetEntry::Vacant(vacancy) => fill(vacancy, &data),
        },
        Step::Claim(key) => match entry(&key)? {
            GetOrSetEntry::Occupied(found) => value(Some(found)),
            GetOrSetEntry::Vacant(vacancy) => {
                VACANCY.set(vacancy);
                Ok(Outcome::Truth(true))
            }
        },
        Step::Fill(data) => fill(VACANCY.take(), &data),
        Step::GiveUp => {
            cache::drop_vacancy(VACANCY.take());
            Ok(Outcome::Nothing)
        }
        Step::Guess => {
            cache::drop_future_result(4_000_000_000);
            Ok(Outcome::Nothing)
        }
    }
}

impl Guest for Component {
    fn run(steps: Vec<Step>) -> Vec<Outcome> {
        steps.into_iter().map(|step| carry_out(step).unwrap_or_else(Outcome::Refused)).collect()
    }
}

export!(Component);
