//! Logins by SASL as exchanges of messages, one file for each mechanism, and what the logins of an engine share. Which
//! requests carry the messages, and when, is decided in `login` beside this folder.

pub mod exchange;
pub mod logins;
pub mod oauthbearer;
mod pbkdf2;
pub mod reply;
pub mod scram;
