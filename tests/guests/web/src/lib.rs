//! A guest of wasi:http: it makes requests as it is told, and answers those that come.

use std::cell::{Cell, RefCell};

wit_bindgen::generate!({
    world: "perdure:web/guest",
    path: ["../../../wit/keyvalue-g4", "wit"],
    generate_all,
});

use exports::perdure::web::caller::{Answer, Guest, Outcome, Request, Step};
use wasi::keyvalue::{atomics, store};
use wasip2::exports::http::incoming_handler;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingBody, IncomingRequest, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

thread_local! {
    static SUM: Cell<i64> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<IncomingResponse>> = const { RefCell::new(Vec::new()) };
}

struct Component;

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "HEAD" => Method::Head,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_string()),
    }
}

fn start(request: &Request) -> Result<FutureIncomingResponse, String> {
    let (scheme, rest) = request.url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
    }
    let made = OutgoingRequest::new(headers);
    made.set_method(&method_of(&request.method)).map_err(|()| "method")?;
    made.set_scheme(Some(&if scheme == "http" { Scheme::Http } else { Scheme::Https })).map_err(|()| "scheme")?;
    made.set_authority(Some(authority)).map_err(|()| "authority")?;
    made.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).map_err(|()| "path")?;
    let body = made.body().map_err(|()| "body")?;
    let options = RequestOptions::new();
    if request.patience > 0 {
        options.set_first_byte_timeout(Some(u64::from(request.patience) * 1_000_000)).map_err(|()| "patience")?;
    }
    let future = outgoing_handler::handle(made, Some(options)).map_err(|code| format!("{code:?}"))?;
    let stream = body.write().map_err(|()| "stream")?;
    for chunk in request.body.chunks(4096) {
        stream.blocking_write_and_flush(chunk).map_err(|error| told(&error))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| format!("{code:?}"))?;
    Ok(future)
}

fn told(error: &StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_string(),
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
    }
}

fn response_of(future: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    loop {
        match future.get() {
            Some(found) => return found.map_err(|()| "taken")?.map_err(|code| format!("{code:?}")),
            None => future.subscribe().block(),
        }
    }
}

fn all_of(body: IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "no stream")?;
    let mut data = Vec::new();
    loop {
        match stream.blocking_read(1000) {
            Ok(chunk) => data.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(told(&error)),
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    assert!(matches!(trailers.get(), Some(Ok(Ok(None)))));
    Ok(data)
}

fn answer_of(future: &FutureIncomingResponse) -> Result<Answer, String> {
    let response = response_of(future)?;
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let body = all_of(response.consume().map_err(|()| "consumed")?)?;
    Ok(Answer { status: response.status(), headers, body })
}

fn carry_out(step: Step) -> Outcome {
    match step {
        Step::Fetch(request) => match start(&request).and_then(|future| answer_of(&future)) {
            Ok(answer) => Outcome::Answer(answer),
            Err(words) => Outcome::Failed(words),
        },
        Step::FetchAll(requests) => {
            let started: Vec<_> = requests.iter().map(start).collect();
            Outcome::Answers(started.into_iter().map(|future| future.and_then(|future| answer_of(&future))).collect())
        }
        Step::Add((bucket, key, delta)) => {
            Outcome::Number(atomics::increment(&store::open(&bucket).unwrap(), &key, delta).unwrap())
        }
        Step::Put((bucket, key, value)) => {
            store::open(&bucket).unwrap().set(&key, &value).unwrap();
            Outcome::Nothing
        }
        Step::Remember(number) => Outcome::Number(SUM.with(|sum| {
            sum.set(sum.get() + number);
            sum.get()
        })),
        Step::Forget(request) => match start(&request) {
            Ok(future) => {
                std::mem::forget(future);
                Outcome::Nothing
            }
            Err(words) => Outcome::Failed(words),
        },
        Step::Trap => panic!("told to"),
    }
}

impl Guest for Component {
    fn run(steps: Vec<Step>) -> Vec<Outcome> {
        steps.into_iter().map(carry_out).collect()
    }

    fn memory() -> i64 {
        SUM.with(Cell::get)
    }

    fn header(name: String, value: Vec<u8>) -> String {
        match Fields::new().append(&name, &value) {
            Ok(()) => "ok".to_string(),
            Err(HeaderError::InvalidSyntax) => "invalid-syntax".to_string(),
            Err(HeaderError::Forbidden) => "forbidden".to_string(),
            Err(HeaderError::Immutable) => "immutable".to_string(),
        }
    }

    fn long_body(bytes: u32) -> String {
        let body = OutgoingRequest::new(Fields::new()).body().unwrap();
        let stream = body.write().unwrap();
        let mut left = bytes as usize;
        while left > 0 {
            let permit = match stream.check_write() {
                Ok(permit) => permit as usize,
                Err(error) => return told(&error),
            };
            let chunk = vec![b'x'; permit.min(left)];
            if let Err(error) = stream.write(&chunk) {
                return told(&error);
            }
            left -= chunk.len();
        }
        stream.blocking_flush().unwrap();
        "ok".to_string()
    }

    fn keep(request: Request) -> u16 {
        let response = response_of(&start(&request).unwrap()).unwrap();
        let status = response.status();
        KEPT.with_borrow_mut(|kept| kept.push(response));
        status
    }
}

fn respond(out: ResponseOutparam, status: u16, headers: &[(&str, &str)], data: &[u8]) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    for chunk in data.chunks(4096) {
        stream.blocking_write_and_flush(chunk).unwrap();
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// `/count` counts in a bucket and in memory, `/echo` tells what came, `/status/N` answers so, and others go wrong.
impl incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (route, _) = path.split_once('?').unwrap_or((&path, ""));
        match route {
            "/count" => {
                let bucket = store::open("counts").unwrap();
                let stored = atomics::increment(&bucket, "n", 1).unwrap();
                let here = SUM.with(|sum| {
                    sum.set(sum.get() + 1);
                    sum.get()
                });
                respond(out, 200, &[("content-type", "text/plain")], format!("{stored} {here}").as_bytes());
            }
            "/echo" => {
                let mut lines = vec![
                    format!("{:?}", request.method()),
                    path.clone(),
                    request.authority().unwrap_or_default(),
                ];
                for (name, value) in request.headers().entries() {
                    lines.push(format!("{name}: {}", String::from_utf8_lossy(&value)));
                }
                let data = all_of(request.consume().unwrap()).unwrap();
                lines.push(String::from_utf8_lossy(&data).into_owned());
                respond(out, 201, &[("x-two", "1"), ("X-Two", "2")], lines.join("\n").as_bytes());
            }
            "/nothing" => {
                let response = OutgoingResponse::new(Fields::new());
                response.set_status_code(204).unwrap();
                ResponseOutparam::set(out, Ok(response));
            }
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("told to".to_string())))),
            "/silent" => {}
            "/half" => {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().unwrap();
                ResponseOutparam::set(out, Ok(response));
                body.write().unwrap().blocking_write_and_flush(b"half").unwrap();
            }
            "/panic" => panic!("told to"),
            "/large" => respond(out, 200, &[], &vec![b'z'; 300_000]),
            _ => respond(out, 404, &[], b"no such path"),
        }
    }
}

export!(Component);
wasip2::http::proxy::export!(Component);
