//! A guest that carries out the program it is given, in a world of its own making: see `wit/world.wit`.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime};

wit_bindgen::generate!({
    world: "perdure:clerk/clerk",
    path: [
        "../../../wit/io-2023-11-10",
        "../../../wit/keyvalue-g1",
        "../../../wit/keyvalue-g4",
        "../../../wit/perdure-durable",
        "wit",
    ],
    generate_all,
});

use exports::perdure::clerk::duties::{Guest, Outcome, Step};
use exports::wasi::keyvalue0_2_0_draft2::watcher;
use perdure::durable::{calls, promises};
use wasi::keyvalue0_2_0_draft2::atomics::{self, Cas, CasError};
use wasi::keyvalue0_2_0_draft2::store::{self, Bucket};
use wasi::keyvalue::cache::{self, GetOrSetEntry, Vacancy};
use wasi::keyvalue::types::Bucket as OldBucket;
use wasi::keyvalue::wasi_cloud_error::Error as OldError;
use wasi::keyvalue::atomic;
use wasip2::exports::http::incoming_handler;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use wasip2::io::streams::StreamError;

#[derive(Default)]
struct Memory {
    sum: i64,
    ended: u64,
    digest: u64,
}

thread_local! {
    static MEMORY: Cell<Memory> = Cell::default();
    static KEPT: RefCell<Option<Vacancy>> = const { RefCell::new(None) };
}

type Done = Result<Outcome, String>;

fn remember(number: i64) -> i64 {
    let mut memory = MEMORY.take();
    memory.sum = memory.sum.wrapping_add(number);
    let sum = memory.sum;
    MEMORY.set(memory);
    sum
}

fn mix(bytes: &[u8]) {
    let mut memory = MEMORY.take();
    for byte in bytes {
        memory.digest = (memory.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    MEMORY.set(memory);
}

fn ended() {
    let mut memory = MEMORY.take();
    memory.ended += 1;
    MEMORY.set(memory);
}

fn text(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no such store".to_string(),
        store::Error::AccessDenied => "access denied".to_string(),
        store::Error::Other(words) => words,
    }
}

fn trace(error: OldError) -> String {
    error.trace()
}

fn open(name: &str) -> Bucket {
    store::open(name).unwrap_or_else(|error| panic!("open: {}", text(error)))
}

fn open_old(name: &str) -> OldBucket {
    OldBucket::open_bucket(name).unwrap_or_else(|error| panic!("open: {}", trace(error)))
}

fn pause(milliseconds: u32) {
    if milliseconds > 0 {
        std::thread::sleep(Duration::from_millis(milliseconds.into()));
    }
}

fn swap(bucket: &Bucket, key: &str, value: &[u8]) -> Result<Outcome, store::Error> {
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

fn exchange(bucket: &Bucket, key: &str, old: Option<Vec<u8>>, value: &[u8]) -> Result<Outcome, store::Error> {
    let mut cas = Cas::new(bucket, key)?;
    while cas.current()? == old {
        match atomics::swap(cas, value) {
            Ok(()) => return Ok(Outcome::Truth(true)),
            Err(CasError::CasFailed(next)) => cas = next,
            Err(CasError::StoreError(error)) => return Err(error),
        }
    }
    Ok(Outcome::Truth(false))
}

/// The value, or the vacancy, whoever has to be waited for.
fn entry(key: &str) -> Result<GetOrSetEntry, String> {
    let future = cache::get_or_set(key);
    future.listen_to_future_get_or_set_result().block();
    let found = future.future_get_or_set_result_get().ok_or("a future that was ready has nothing")?;
    found.map_err(trace)
}

fn get_or_set(key: &str, value: &[u8], milliseconds: u32) -> Done {
    match entry(key)? {
        GetOrSetEntry::Occupied(found) => Ok(Outcome::Value(Some(found.incoming_value_consume_sync().map_err(trace)?))),
        GetOrSetEntry::Vacant(vacancy) => {
            pause(milliseconds);
            let body = vacancy.vacancy_fill(None);
            body.outgoing_value_write_body_sync(value).map_err(trace)?;
            Ok(Outcome::Filled)
        }
    }
}

fn cached(key: &str) -> Done {
    let future = cache::get(key);
    future.listen_to_future_get_result().block();
    let found = future.future_get_result_get().ok_or("a future that was ready has nothing")?.map_err(trace)?;
    Ok(Outcome::Value(found.map(|value| value.incoming_value_consume_sync().map_err(trace)).transpose()?))
}

fn fetched(url: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let (_, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).map_err(|()| "method")?;
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "path")?;
    let sink = request.body().map_err(|()| "body")?;
    let future = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    let stream = sink.write().map_err(|()| "stream")?;
    stream.blocking_write_and_flush(body).map_err(|error| format!("{error:?}"))?;
    drop(stream);
    OutgoingBody::finish(sink, None).map_err(|code| format!("{code:?}"))?;
    let response = loop {
        match future.get() {
            Some(found) => break found.map_err(|()| "taken")?.map_err(|code| format!("{code:?}"))?,
            None => future.subscribe().block(),
        }
    };
    if response.status() != 200 {
        return Err(format!("status {}", response.status()));
    }
    all_of(response.consume().map_err(|()| "consumed")?)
}

fn all_of(body: IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "no stream")?;
    let mut data = Vec::new();
    loop {
        match stream.blocking_read(1000) {
            Ok(chunk) => data.extend(chunk),
            Err(StreamError::Closed) => return Ok(data),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
}

fn waited(bucket: &str, key: &str) -> Done {
    let id = open(bucket).get(key).map_err(text)?.ok_or("no promise is there")?;
    let id = String::from_utf8(id).map_err(|error| error.to_string())?;
    match promises::wait(&id) {
        Ok(value) => Ok(Outcome::Value(Some(value))),
        Err(promises::Error::Failed(why)) => Err(format!("failed: {why}")),
        Err(promises::Error::NoSuchPromise) => Err("no such promise".to_string()),
    }
}

fn called(instance: &str, arguments: &str) -> Done {
    match calls::call(instance, "run", arguments) {
        Ok(answer) => Ok(Outcome::Text(answer)),
        Err(calls::Error::NoSuchFunction(why)) => Err(format!("no such function: {why}")),
        Err(calls::Error::BadArguments(why)) => Err(format!("bad arguments: {why}")),
        Err(calls::Error::Refused(why)) => Err(format!("refused: {why}")),
        Err(calls::Error::Failed(failure)) => Err(format!("{}: {}", failure.code, failure.detail)),
    }
}

fn carry_out(step: Step) -> Done {
    Ok(match step {
        Step::Put((bucket, key, value)) => {
            open(&bucket).set(&key, &value).map_err(text)?;
            Outcome::Nothing
        }
        Step::Get((bucket, key)) => Outcome::Value(open(&bucket).get(&key).map_err(text)?),
        Step::Remove((bucket, key)) => {
            open(&bucket).delete(&key).map_err(text)?;
            Outcome::Nothing
        }
        Step::Add((bucket, key, delta)) => {
            Outcome::Number(atomics::increment(&open(&bucket), &key, delta).map_err(text)?)
        }
        Step::Count((bucket, key, delta)) => {
            Outcome::Number(atomic::increment(&open_old(&bucket), &key, delta).map_err(trace)? as i64)
        }
        Step::CompareAndSwap((bucket, key, old, new)) => {
            Outcome::Truth(atomic::compare_and_swap(&open_old(&bucket), &key, old, new).map_err(trace)?)
        }
        Step::Swap((bucket, key, value)) => swap(&open(&bucket), &key, &value).map_err(text)?,
        Step::Exchange((bucket, key, old, value)) => exchange(&open(&bucket), &key, old, &value).map_err(text)?,
        Step::CacheGet(key) => cached(&key)?,
        Step::GetOrSet((key, value, milliseconds)) => get_or_set(&key, &value, milliseconds)?,
        Step::Claim(key) => match entry(&key)? {
            GetOrSetEntry::Occupied(_) => Outcome::Truth(false),
            GetOrSetEntry::Vacant(vacancy) => {
                KEPT.set(Some(vacancy));
                Outcome::Truth(true)
            }
        },
        Step::GiveUp => {
            KEPT.take();
            Outcome::Nothing
        }
        Step::Fetch((url, body, bucket, key)) => {
            let answer = fetched(&url, &body)?;
            if !bucket.is_empty() {
                open(&bucket).set(&key, &answer).map_err(text)?;
            }
            Outcome::Value(Some(answer))
        }
        Step::Sleep(milliseconds) => {
            let begun = Instant::now();
            pause(milliseconds);
            Outcome::Truth(begun.elapsed() >= Duration::from_millis(milliseconds.into()))
        }
        Step::Promise((bucket, key)) => {
            let id = promises::create();
            open(&bucket).set(&key, id.as_bytes()).map_err(text)?;
            Outcome::Text(id)
        }
        Step::Await((bucket, key)) => waited(&bucket, &key)?,
        Step::Call((instance, arguments)) => called(&instance, &arguments)?,
        Step::Remember(number) => Outcome::Number(remember(number)),
        Step::Tick => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            mix(&now.as_nanos().to_le_bytes());
            Outcome::Nothing
        }
        Step::Trap => panic!("told to"),
    })
}

fn seen(outcome: Outcome) -> Outcome {
    match &outcome {
        Outcome::Nothing => mix(b"n"),
        Outcome::Value(None) => mix(b"m"),
        Outcome::Value(Some(bytes)) => mix(bytes),
        Outcome::Number(number) => mix(&number.to_le_bytes()),
        Outcome::Truth(truth) => mix(&[u8::from(*truth)]),
        Outcome::Filled => mix(b"f"),
        Outcome::Text(words) | Outcome::Refused(words) => mix(words.as_bytes()),
    }
    outcome
}

struct Clerk;

impl Guest for Clerk {
    fn run(steps: Vec<Step>) -> Vec<Outcome> {
        let outcomes =
            steps.into_iter().map(|step| seen(carry_out(step).unwrap_or_else(Outcome::Refused))).collect();
        ended();
        outcomes
    }

    fn memory() -> (i64, u64, u64) {
        let memory = MEMORY.take();
        let told = (memory.sum, memory.ended, memory.digest);
        MEMORY.set(memory);
        told
    }
}

/// Under the key's name in `told`: one after another what became of it.
fn told(key: &str, change: &[u8]) {
    let bucket = open("told");
    let mut all = bucket.get(key).unwrap_or_else(|error| panic!("{}", text(error))).unwrap_or_default();
    all.extend_from_slice(change);
    all.push(b';');
    bucket.set(key, &all).unwrap_or_else(|error| panic!("{}", text(error)));
    ended();
}

impl watcher::Guest for Clerk {
    fn on_set(_bucket: Bucket, key: String, value: Vec<u8>) {
        told(&key, &[b"=", &value[..]].concat());
    }

    fn on_delete(_bucket: Bucket, key: String) {
        told(&key, b"-");
    }
}

/// `/add/{bucket}/{key}/{delta}` adds there and in memory, and answers with both numbers.
impl incoming_handler::Guest for Clerk {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let words: Vec<&str> = path.split('/').collect();
        let (status, answer) = match words[..] {
            ["", "add", bucket, key, delta] => {
                let delta: i64 = delta.parse().unwrap();
                let total = atomics::increment(&open(bucket), key, delta).unwrap_or_else(|error| panic!("{}", text(error)));
                mix(&total.to_le_bytes());
                (200, format!("{total} {}", remember(delta)))
            }
            _ => (404, "no such path".to_string()),
        };
        ended();
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        stream.blocking_write_and_flush(answer.as_bytes()).unwrap();
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}

export!(Clerk);
wasip2::http::proxy::export!(Clerk);
