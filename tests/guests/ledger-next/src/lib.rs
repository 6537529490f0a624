//! The ledger's next version, for tests of updates.

const VERSION: u32 = 2;

include!("../../common/ledger.rs");
