//! The tests' functions over wasi:keyvalue, generation 2.

wit_bindgen::generate!({
    world: "perdure:guest/guest",
    path: ["../../../wit/io-0.2", "../../../wit/keyvalue-g2", "../wit", "wit"],
    generate_all,
});

include!("../../common/api.rs");
include!("../../common/eventual.rs");
include!("../../common/legacy.rs");

use wasi::io::streams;
use wasi::keyvalue::atomic;
