//! Requests that were handed to a connection and have no answer yet, in their order.
//!
//! A broker answers the requests of one connection in the order in which they came, so an answer belongs to the
//! oldest request or the connection is out of step and must be closed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ids::TopicPartition;
use crate::wire::Api;
use crate::wire::frame::CorrelationId;

/// Requests without an answer.
#[derive(Debug)]
pub struct InFlight {
    requests: VecDeque<Request>,
    /// The number of them whose first byte was accepted by the socket, and the number whose last byte was.
    started: usize,
    finished: usize,
    produce: usize,
    /// Bytes of the Produce requests.
    produce_bytes: usize,
    last_progress: Instant,
    /// The moment at which the timeout began instead, if nobody had looked for the answer.
    was_extended: Option<Instant>,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Its number.
    pub correlation: CorrelationId,
    /// The version it was written in.
    pub version: i16,
    /// The API that it calls.
    pub api: Api,
    /// For Produce, which has one batch for each: the partitions, ascending by topic index and number. Else none.
    pub partitions: Vec<TopicPartition>,
    /// `Expected` if the broker answers it at all.
    pub answer: Answer,
    /// Its length in bytes.
    pub bytes: usize,
}

/// The answer to expect from a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker answers.
    Expected,
    /// The broker does not answer: Produce with acks 0.
    None,
}

impl InFlight {
    /// Nothing in flight.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            requests: VecDeque::new(),
            started: 0,
            finished: 0,
            produce: 0,
            produce_bytes: 0,
            last_progress: now,
            was_extended: None,
        }
    }

    /// `true` if nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The number of requests in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// The number of Produce requests in flight.
    #[must_use]
    pub fn produce_requests(&self) -> usize {
        self.produce
    }

    /// The bytes of the Produce requests in flight.
    #[must_use]
    pub fn produce_bytes(&self) -> usize {
        self.produce_bytes
    }

    /// The API of the oldest request.
    #[must_use]
    pub fn oldest_api(&self) -> Option<&'static str> {
        Some(self.requests.front()?.api.name())
    }

    /// The same if an answer to it is awaited.
    #[must_use]
    pub fn awaited_api(&self) -> Option<&'static str> {
        self.requests.front().filter(|request| request.answer == Answer::Expected).and_then(|_| self.oldest_api())
    }

    /// The later of the last byte written and the last answer: a broker serves one request of a connection at a
    /// time, so its timeout begins anew with each answer.
    #[must_use]
    pub fn last_progress(&self) -> Instant {
        self.last_progress
    }

    /// Begins the timeout anew, after a silence that was agreed on.
    pub fn resume(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// Waits at least until `until` for the next answer, for which the timeout is this, but not twice for the same
    /// one.
    pub fn extend_timeouts(&mut self, until: Instant, timeout: Duration) {
        let Some(since) = until.checked_sub(timeout) else { return };
        if since > self.last_progress && self.was_extended != Some(self.last_progress) {
            (self.last_progress, self.was_extended) = (since, Some(since));
        }
    }

    /// Notes a request that is being handed to the socket.
    pub fn sent(&mut self, request: Request, now: Instant) {
        if self.requests.is_empty() {
            self.last_progress = now;
        }
        if request.api == Api::Produce {
            self.produce += 1;
            self.produce_bytes += request.bytes;
        }
        self.requests.push_back(request);
    }

    /// Notes bytes that the socket accepted; calls `on_start` for each request whose first byte was among them.
    ///
    /// Returns the requests that are done by that, because nobody answers them.
    pub fn wrote(
        &mut self,
        started: usize,
        finished: usize,
        now: Instant,
        mut on_start: impl FnMut(&Request),
    ) -> Vec<Request> {
        self.last_progress = now;
        for request in self.requests.iter().skip(self.started).take(started) {
            on_start(request);
        }
        self.started = (self.started + started).min(self.requests.len());
        self.finished = (self.finished + finished).min(self.started);
        let mut done = Vec::new();
        let mut at = 0;
        while at < self.finished {
            if self.requests[at].answer == Answer::None {
                self.produce_bytes -= self.requests[at].bytes;
                done.extend(self.requests.remove(at));
                self.started -= 1;
                self.finished -= 1;
                self.produce -= 1;
            } else {
                at += 1;
            }
        }
        done
    }

    /// The request that an answer with this number belongs to, or `None` if the connection is out of step.
    pub fn answered(&mut self, correlation: CorrelationId, now: Instant) -> Option<Request> {
        if self.finished == 0 || self.requests.front()?.correlation != correlation {
            return None;
        }
        self.last_progress = now;
        self.started -= 1;
        self.finished -= 1;
        let request = self.requests.pop_front()?;
        if request.api == Api::Produce {
            self.produce -= 1;
            self.produce_bytes -= request.bytes;
        }
        Some(request)
    }

    /// The requests that are left when the connection ends, each with `true` if its first byte was accepted by the
    /// socket.
    pub fn into_rest(self) -> impl Iterator<Item = (Request, bool)> {
        let started = self.started;
        self.requests.into_iter().enumerate().map(move |(index, request)| (request, index < started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionId, TopicIndex};

    fn request(number: i32, answer: Answer) -> Request {
        let (correlation, partitions) =
            (CorrelationId(number), vec![TopicPartition { topic: TopicIndex(0), partition: PartitionId(number) }]);
        Request { correlation, version: 9, api: Api::Produce, partitions, answer, bytes: 10 }
    }

    fn in_flight(numbers: std::ops::Range<i32>, now: Instant) -> InFlight {
        let mut in_flight = InFlight::new(now);
        for number in numbers {
            in_flight.sent(request(number, Answer::Expected), now);
        }
        in_flight
    }

    #[test]
    fn answers_come_in_the_order_of_the_requests() {
        let now = crate::engine::test_clock();
        let mut in_flight = in_flight(0..2, now);
        in_flight.wrote(2, 2, now, |_| ());
        assert!(in_flight.answered(CorrelationId(1), now).is_none(), "swapped");
        assert_eq!(
            in_flight.answered(CorrelationId(0), now).map(|request| request.correlation),
            Some(CorrelationId(0))
        );
        assert!(in_flight.answered(CorrelationId(0), now).is_none(), "twice");
        assert!(in_flight.answered(CorrelationId(1), now).is_some());
        assert!(in_flight.answered(CorrelationId(2), now).is_none(), "unsolicited");
        assert_eq!((in_flight.produce_requests(), in_flight.produce_bytes()), (0, 0));
    }

    #[test]
    fn an_answer_before_the_request_was_written_is_out_of_step() {
        let now = crate::engine::test_clock();
        let mut in_flight = in_flight(0..1, now);
        assert!(in_flight.answered(CorrelationId(0), now).is_none());
        in_flight.wrote(1, 0, now, |_| ());
        assert!(in_flight.answered(CorrelationId(0), now).is_none());
    }

    #[test]
    fn a_request_that_nobody_answers_is_done_with_its_last_byte() {
        let now = crate::engine::test_clock();
        let mut in_flight = InFlight::new(now);
        in_flight.sent(request(0, Answer::Expected), now);
        in_flight.sent(request(1, Answer::None), now);
        in_flight.sent(request(2, Answer::None), now);
        let mut started = 0;
        assert!(in_flight.wrote(3, 1, now, |_| started += 1).is_empty());
        assert_eq!(started, 3);
        let done = in_flight.wrote(0, 1, now, |_| ());
        assert_eq!(done.iter().map(|request| request.correlation).collect::<Vec<_>>(), [CorrelationId(1)]);
        assert_eq!(in_flight.produce_bytes(), 20);
        assert!(in_flight.answered(CorrelationId(0), now).is_some());
        assert_eq!(in_flight.wrote(0, 1, now, |_| ()).len(), 1);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn an_answer_is_put_off_once_and_the_next_one_again() {
        let (start, second) = (crate::engine::test_clock(), Duration::from_secs(1));
        let (mut in_flight, timeout) = (in_flight(0..2, start), 30 * second);
        in_flight.wrote(2, 2, start, |_| ());
        in_flight.extend_timeouts(start + 20 * second, timeout);
        assert_eq!(in_flight.last_progress(), start, "it has as much time anyway");
        in_flight.extend_timeouts(start + 40 * second, timeout);
        assert_eq!(in_flight.last_progress() + timeout, start + 40 * second);
        in_flight.extend_timeouts(start + 50 * second, timeout);
        assert_eq!(in_flight.last_progress() + timeout, start + 40 * second, "not twice");
        assert!(in_flight.answered(CorrelationId(0), start + 35 * second).is_some());
        in_flight.extend_timeouts(start + 70 * second, timeout);
        assert_eq!(in_flight.last_progress() + timeout, start + 70 * second);
    }

    #[test]
    fn the_rest_tells_what_the_socket_has_seen() {
        let now = crate::engine::test_clock();
        let mut in_flight = in_flight(0..3, now);
        in_flight.wrote(2, 1, now + Duration::from_secs(1), |_| ());
        assert_eq!(in_flight.last_progress(), now + Duration::from_secs(1));
        let rest: Vec<_> = in_flight.into_rest().map(|(request, started)| (request.correlation.0, started)).collect();
        assert_eq!(rest, [(0, true), (1, true), (2, false)]);
    }
}
