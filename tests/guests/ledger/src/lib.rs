//! A guest that carries out the program it is given. `ledger-next` is the same with another version.

const VERSION: u32 = 1;

include!("../../common/ledger.rs");
