//! What brokers answer to batches, and what becomes of them.
