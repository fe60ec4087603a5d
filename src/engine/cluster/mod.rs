//! Speaking with the brokers of a cluster, for whoever does: the link to each, what is in flight on it, and how much may
//! be.

pub mod in_flight;
pub mod link;
pub mod window;
