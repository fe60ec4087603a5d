//! What the fuzzers do with their input, as plain functions, so that a stable `cargo test` runs the same over the
//! committed corpora (`tests/corpora.rs`). A body panics when something is wrong, and says nothing otherwise.

mod batches;
mod decoders;
mod frames;
mod input;
mod logins;
mod requests;
mod responses;
mod script;
mod wires;

pub use batches::{record_batch_decode, record_batch_roundtrip};
pub use decoders::response_decode;
pub use frames::frame_reader;
pub use logins::sasl_login;
pub use requests::request_decode;
pub use script::producer_script;
