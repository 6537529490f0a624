//! A guest that is told of changes of buckets, over wasi:keyvalue, generation 2.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/io-0.2", "../../../wit/keyvalue-g2", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/watch.rs");
include!("../../common/eventual.rs");

impl exports::wasi::keyvalue::handle_watch::Guest for Component {
    fn on_set(bucket: backend::Bucket, key: String, value: &wasi::keyvalue::types::IncomingValue) {
        told(&bucket, &key, Some(value.incoming_value_consume_sync().unwrap_or_else(|error| panic!("{}", error.trace()))));
    }

    fn on_delete(bucket: backend::Bucket, key: String) {
        told(&bucket, &key, None);
    }
}
