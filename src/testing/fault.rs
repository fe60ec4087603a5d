//! Faults: the misbehaviour of a broker, and the requests that it meets.

use std::time::Duration;

use super::Api;
use crate::error::ErrorCode;

/// A fault that hits requests of one kind, until its guard is dropped.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use ottla::ErrorCode;
/// use ottla::testing::{Api, Cluster, Fault};
///
/// let cluster = Cluster::start()?;
/// let refused_twice = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_LEADER_OR_FOLLOWER).times(2));
/// // ... produce, and see it delivered in spite of this ...
/// # assert_eq!(refused_twice.hits(), 0);
/// # Ok(())
/// # }
/// ```
///
/// A fault without an effect changes nothing and counts requests. Several faults on one request add up.
#[derive(Clone, Debug)]
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    pub(super) scope: Scope,
    pub(super) skip: u64,
    pub(super) times: u64,
    pub(super) effects: Effects,
}

/// The requests that a fault is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    api: Option<Api>,
    node: Option<i32>,
    topic: Option<String>,
    partition: Option<i32>,
}

/// The effects of a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub error: Option<i16>,
    pub error_after: Option<i16>,
    pub delay: Duration,
    pub throttle: Duration,
    pub cut: Option<Cut>,
    pub stall: bool,
    pub wrong_correlation: bool,
    pub raw: Option<Vec<u8>>,
}

/// The place at which a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Before,
    After,
    Inside(usize),
}

impl Fault {
    /// A fault on all requests of this kind.
    pub fn on(api: Api) -> Self {
        Self::with_scope(Scope { api: Some(api), ..Scope::default() })
    }

    /// A fault on requests of every kind.
    pub fn on_any() -> Self {
        Self::with_scope(Scope::default())
    }

    fn with_scope(scope: Scope) -> Self {
        Self { scope, skip: 0, times: u64::MAX, effects: Effects::default() }
    }

    /// Only requests to this broker.
    pub fn node(mut self, node: i32) -> Self {
        self.scope.node = Some(node);
        self
    }

    /// Only requests that name this topic; an error is given to this topic alone.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.scope.topic = Some(topic.into());
        self
    }

    /// Only requests that name this partition; an error is given to this partition alone.
    ///
    /// Metadata names no partitions, so this is never true for it.
    pub fn partition(mut self, partition: i32) -> Self {
        self.scope.partition = Some(partition);
        self
    }

    /// Lets this many requests pass before the first that is hit.
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Hits this many requests and no more. Without it the fault hits until its guard is dropped.
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    /// Refuses with this error code, and does not carry out the request.
    ///
    /// The code is given for each partition that the request names; in Metadata for each topic; and for the request as
    /// a whole where it names none, as InitProducerId.
    pub fn error(mut self, code: ErrorCode) -> Self {
        self.effects.error = Some(code.0);
        self
    }

    /// Carries out the request, and then answers with this error code, as in [`error`](Self::error).
    ///
    /// In Produce, the batches are in the log although the producer is told otherwise. The answer has their offset
    /// where that of Kafka's brokers has it, which is when they waited for replicas in vain:
    /// [`REQUEST_TIMED_OUT`](ErrorCode::REQUEST_TIMED_OUT), for example.
    pub fn error_after(mut self, code: ErrorCode) -> Self {
        self.effects.error_after = Some(code.0);
        self
    }

    /// Carries out the request at once, and answers this much later. The connection answers nothing else meanwhile.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.effects.delay = delay;
        self
    }

    /// Closes the connection, and does not carry out the request.
    pub fn cut_before(self) -> Self {
        self.cut(Cut::Before)
    }

    /// Carries out the request, then closes the connection without an answer: the client cannot know.
    pub fn cut_after(self) -> Self {
        self.cut(Cut::After)
    }

    /// Carries out the request, sends the first `bytes` of the answer (its size field included), then closes the
    /// connection.
    pub fn cut_inside(self, bytes: usize) -> Self {
        self.cut(Cut::Inside(bytes))
    }

    fn cut(mut self, cut: Cut) -> Self {
        self.effects.cut = Some(cut);
        self
    }

    /// Leaves the request, and all behind it on its connection, unhandled until the guard is dropped; then it is
    /// handled as if it had come just now.
    pub fn stall(mut self) -> Self {
        self.effects.stall = true;
        self
    }

    /// Answers at once with this throttle time, to the millisecond, which a client must wait for. Until it is over the
    /// broker reads nothing on that connection, as when a quota is used up (KIP-219). Other connections go on.
    pub fn throttle(mut self, throttle: Duration) -> Self {
        self.effects.throttle = throttle;
        self
    }

    /// Answers under a correlation id that the client did not use.
    pub fn wrong_correlation(mut self) -> Self {
        self.effects.wrong_correlation = true;
        self
    }

    /// Does nothing, and answers with a frame of these bytes. The size is put before them; the correlation id
    /// is the first four of them.
    pub fn raw(mut self, frame: impl Into<Vec<u8>>) -> Self {
        self.effects.raw = Some(frame.into());
        self
    }
}

impl Scope {
    /// `true` if the fault is about a request. `targets` are the topics and partitions that it names.
    fn covers(&self, api: Api, node: i32, targets: &[FaultTarget]) -> bool {
        self.api.is_none_or(|only| only == api)
            && self.node.is_none_or(|only| only == node)
            && (self.topic.is_none() && self.partition.is_none()
                || targets.iter().any(|target| self.covers_target(&target.topic, target.partition)))
    }

    fn covers_target(&self, topic: &str, partition: Option<i32>) -> bool {
        self.topic.as_ref().is_none_or(|only| only == topic)
            && self.partition.is_none_or(|only| partition == Some(only))
    }
}

/// A topic, or a partition of it, that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FaultTarget {
    pub topic: String,
    pub partition: Option<i32>,
}

/// The number of an injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FaultId(u64);

/// The faults that are there now.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    next: u64,
    injected: Vec<Injected>,
}

#[derive(Clone, Debug)]
struct Injected {
    id: FaultId,
    fault: Fault,
    seen: u64,
    hits: u64,
}

impl Faults {
    pub fn inject(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.injected.push(Injected { id, fault, seen: 0, hits: 0 });
        id
    }

    pub fn remove(&mut self, id: FaultId) {
        self.injected.retain(|injected| injected.id != id);
    }

    pub fn is_there(&self, id: FaultId) -> bool {
        self.injected.iter().any(|injected| injected.id == id)
    }

    pub fn hits(&self, id: FaultId) -> u64 {
        self.injected.iter().find(|injected| injected.id == id).map_or(0, |injected| injected.hits)
    }

    /// The effects of the faults on this request; counts it for every fault that hits it.
    pub fn hit(&mut self, api: Api, node: i32, targets: &[FaultTarget]) -> Hits {
        let mut hits = Hits::default();
        for injected in &mut self.injected {
            if !injected.fault.scope.covers(api, node, targets) {
                continue;
            }
            injected.seen += 1;
            if injected.seen <= injected.fault.skip || injected.hits >= injected.fault.times {
                continue;
            }
            injected.hits += 1;
            hits.add(injected.id, &injected.fault);
        }
        hits
    }
}

/// The effects on one request of all faults that hit it.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits {
    errors: Vec<(Scope, Errors)>,
    pub delay: Duration,
    pub throttle_ms: i32,
    pub cut: Option<Cut>,
    pub stall: Option<FaultId>,
    pub wrong_correlation: bool,
    pub raw: Option<Vec<u8>>,
}

/// The errors to answer with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    /// In place of carrying out the request.
    pub before: Option<i16>,
    /// After the request is carried out.
    pub after: Option<i16>,
}

impl Hits {
    fn add(&mut self, id: FaultId, fault: &Fault) {
        let effects = &fault.effects;
        self.errors.push((fault.scope.clone(), Errors { before: effects.error, after: effects.error_after }));
        self.delay += effects.delay;
        let throttle_ms = i32::try_from(effects.throttle.as_millis()).unwrap_or(i32::MAX);
        self.throttle_ms = self.throttle_ms.max(throttle_ms);
        self.cut = self.cut.or(effects.cut);
        self.stall = self.stall.or(effects.stall.then_some(id));
        self.wrong_correlation |= effects.wrong_correlation;
        self.raw = self.raw.take().or_else(|| effects.raw.clone());
    }

    /// The errors for the request as a whole.
    pub fn errors(&self) -> Errors {
        self.first_errors(|_| true)
    }

    /// The errors for a topic, or for a partition of it.
    pub fn errors_for(&self, topic: &str, partition: Option<i32>) -> Errors {
        self.first_errors(|scope| scope.covers_target(topic, partition))
    }

    fn first_errors(&self, covers: impl Fn(&Scope) -> bool) -> Errors {
        let mut first = Errors::default();
        for (_, errors) in self.errors.iter().filter(|(scope, _)| covers(scope)) {
            first.before = first.before.or(errors.before);
            first.after = first.after.or(errors.after);
        }
        first
    }
}
