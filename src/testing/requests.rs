//! The way of a request through a broker: from the frame that came to the reply, with the effects of faults.
//!
//! No sockets, no clock, no locks: the time is an argument, and waits are part of the [`Reply`]. `server` drives it
//! with real connections; a simulation can drive it on one thread.

use std::time::Duration;

use bytes::Bytes;
use log::Level;

use super::Api;
use super::fault::{Cut, FaultId, Hits};
use super::frame::{self, BadFrame, RequestHeader};
use super::handlers::{self, Asked, Context, Response};
use super::state::ClusterState;
use crate::message::Timestamp;

/// A broker's reply to a request.
#[derive(Debug)]
pub enum Reply {
    /// Sends these bytes, size field included, which may be none, after this time.
    Send {
        /// The time to wait before.
        after: Duration,
        /// The bytes to send.
        bytes: Vec<u8>,
        /// The next step of the connection.
        then: Then,
    },
    /// Waits until [`ClusterState::is_ready`], then goes on with [`ClusterState::resume`].
    Park(Box<Parked>),
}

/// The next step of a connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request is served.
    Continue,
    /// Nothing is read for this long, then the next request is served: the broker asked for silence (KIP-219).
    Mute(Duration),
    /// It is closed.
    Close,
}

/// A request that waits.
#[derive(Debug)]
pub struct Parked {
    request: Request,
    until: Until,
}

#[derive(Debug)]
struct Request {
    node: i32,
    connection: u64,
    header: RequestHeader,
    body: Box<dyn Asked>,
    hits: Hits,
    arrived: Timestamp,
}

#[derive(Debug)]
enum Until {
    FaultEnds(FaultId),
    News { seen: u64, deadline: Timestamp },
}

impl Parked {
    /// The latest time at which it is ready, if that is known.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.until {
            Until::FaultEnds(_) => None,
            Until::News { deadline, .. } => Some(deadline),
        }
    }
}

impl ClusterState {
    /// The reply of a broker that is up to the request in a frame, which comes without its size, and on the only
    /// connection that there is, as far as logins go.
    #[cfg(any(test, feature = "_internal"))]
    pub fn receive(&mut self, node: i32, frame: &Bytes, now: Timestamp) -> Reply {
        self.receive_on(0, node, frame, now)
    }

    /// The same on one of many connections.
    pub fn receive_on(&mut self, connection: u64, node: i32, frame: &Bytes, now: Timestamp) -> Reply {
        let (header, bytes) = match frame::read_header(frame) {
            Ok(read) => read,
            Err(bad) => return self.refuse(node, &bad),
        };
        let RequestHeader { api, version, client_id, .. } = &header;
        self.lines.note(Level::Debug, format_args!("broker {node}: {api} v{version} from {client_id:?}"));
        self.note_request(node, &header, now);
        #[cfg(feature = "sasl")]
        if self.settings.logins.is_some() {
            if let Err(why) = self.sessions.let_in(connection, &header, now) {
                return self.refuse(node, &why);
            }
        }
        self.create_due_topics(now);
        let offered = self.settings.apis.get(&header.api).is_some_and(|offered| offered.contains(header.version));
        if !offered || !header.api.of_the_cluster().contains(header.version) {
            return self.refuse_version(node, &header);
        }
        let body = match handlers::read(header.api, header.version, bytes) {
            Ok(body) => body,
            Err(error) => return self.refuse(node, &BadFrame::Body(header.api, header.version, error)),
        };
        let hits = self.faults.hit(header.api, node, &body.targets(self));
        let stall = hits.stall;
        let request = Request { node, connection, header, body, hits, arrived: now };
        match stall {
            Some(fault) => Reply::Park(Box::new(Parked { request, until: Until::FaultEnds(fault) })),
            None => self.attempt(request, now),
        }
    }

    /// `true` if a request that waits can go on.
    #[must_use]
    pub fn is_ready(&self, parked: &Parked, now: Timestamp) -> bool {
        match parked.until {
            Until::FaultEnds(fault) => !self.faults.is_there(fault),
            Until::News { seen, deadline } => seen != self.news || now >= deadline,
        }
    }

    /// The reply to a request that waited until it was ready.
    pub fn resume(&mut self, parked: Parked, now: Timestamp) -> Reply {
        let Parked { mut request, until } = parked;
        if let Until::FaultEnds(_) = until {
            request.arrived = now;
        }
        self.create_due_topics(now);
        self.attempt(request, now)
    }

    fn attempt(&mut self, request: Request, now: Timestamp) -> Reply {
        let Request { node, connection, header, body, hits, arrived } = &request;
        let after = hits.delay;
        let then = match hits.throttle_ms.unsigned_abs() {
            0 => Then::Continue,
            millis => Then::Mute(Duration::from_millis(millis.into())),
        };
        let close = |bytes| Reply::Send { after, bytes, then: Then::Close };
        if hits.cut == Some(Cut::Before) {
            return close(Vec::new());
        }
        if let Some(raw) = &hits.raw {
            return Reply::Send { after, bytes: frame::with_size(raw), then: Then::Continue };
        }
        let context = Context { node: *node, connection: *connection, header, hits, now, arrived: *arrived };
        let (mut after, mut then) = (after, then);
        let mut bytes = match body.answer(self, &context) {
            Response::Answer(bytes) => bytes,
            Response::Refusal(bytes) => {
                (after, then) = (after + self.settings.login_failure_delay, Then::Close);
                bytes
            }
            Response::Silence => {
                return Reply::Send { after, bytes: Vec::new(), then };
            }
            Response::Close => return close(Vec::new()),
            Response::Fault(why) => return self.refuse(*node, &why),
            Response::WaitForNews { deadline } => {
                let until = Until::News { seen: self.news, deadline };
                return Reply::Park(Box::new(Parked { request, until }));
            }
        };
        if hits.wrong_correlation {
            let wrong = header.correlation_id.wrapping_add(1000);
            bytes[4..8].copy_from_slice(&wrong.to_be_bytes());
        }
        match hits.cut {
            Some(Cut::Inside(length)) => {
                bytes.truncate(length);
                close(bytes)
            }
            Some(Cut::After | Cut::Before) => close(Vec::new()),
            None => Reply::Send { after, bytes, then },
        }
    }

    fn refuse_version(&mut self, node: i32, header: &RequestHeader) -> Reply {
        let RequestHeader { api, version, .. } = header;
        // KIP-511: only ApiVersions is answered in a version that is not known.
        let answer = match self.settings.apis.get(api) {
            Some(_) if *api == Api::ApiVersions => Some(handlers::api_versions_unsupported(self, header)),
            _ => None,
        };
        match answer {
            Some(Ok(bytes)) => Reply::Send { after: Duration::ZERO, bytes, then: Then::Continue },
            Some(Err(why)) => self.refuse(node, &why),
            None => self.refuse(node, &format_args!("{api} request of version {version}, which was not offered")),
        }
    }

    fn refuse(&mut self, node: i32, why: &dyn std::fmt::Display) -> Reply {
        self.lines.note(Level::Warn, format_args!("broker {node}: {why}; the connection is closed"));
        Reply::Send { after: Duration::ZERO, bytes: Vec::new(), then: Then::Close }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, InitProducerIdRequest};
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::error::ErrorCode;
    use crate::testing::asking::{Asking, api_versions, batch, frame};
    use crate::testing::{ClusterBuilder, Fault};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A broker with topic `t`, and the reply to a batch with one record for t-0.
    fn reply_to_produce(asking: &mut Asking) -> (Duration, Vec<u8>, Then) {
        let request = asking.produce_request(9, "t", 0, batch(1).bytes());
        match asking.reply(1, 9, &request) {
            Reply::Send { after, bytes, then } => (after, bytes, then),
            Reply::Park(_) => panic!("parked"),
        }
    }

    fn with(fault: Fault) -> Asking {
        let mut asking = Asking::one_broker();
        asking.state.inject(fault);
        asking
    }

    #[test]
    fn cut_before_does_nothing_and_closes() {
        let mut asking = with(Fault::on(Api::Produce).cut_before());
        assert_eq!(reply_to_produce(&mut asking), (ms(0), Vec::new(), Then::Close));
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn cut_after_appends_and_closes_without_an_answer() {
        let mut asking = with(Fault::on(Api::Produce).cut_after());
        assert_eq!(reply_to_produce(&mut asking), (ms(0), Vec::new(), Then::Close));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn cut_inside_sends_the_beginning_of_the_answer() {
        let whole = reply_to_produce(&mut Asking::one_broker()).1;
        let mut asking = with(Fault::on(Api::Produce).cut_inside(7));
        assert_eq!(reply_to_produce(&mut asking), (ms(0), whole[..7].to_vec(), Then::Close));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn delays_add_up_and_the_batch_is_appended_at_once() {
        let mut asking = with(Fault::on(Api::Produce).delay(ms(20)));
        asking.state.inject(Fault::on_any().delay(ms(5)));
        let (after, bytes, then) = reply_to_produce(&mut asking);
        assert_eq!((after, bytes.is_empty(), then), (ms(25), false, Then::Continue));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn a_throttled_connection_is_not_read_from_also_where_no_answer_is_due() {
        let mut asking = with(Fault::on(Api::Produce).throttle(ms(700)));
        let (after, bytes, then) = reply_to_produce(&mut asking);
        assert_eq!((after, bytes.is_empty(), then), (ms(0), false, Then::Mute(ms(700))));
        let request = asking.produce_request(9, "t", 0, batch(1).bytes()).with_acks(0);
        let Reply::Send { bytes, then, .. } = asking.reply(1, 9, &request) else { panic!("parked") };
        assert_eq!((bytes.is_empty(), then), (true, Then::Mute(ms(700))));
    }

    #[test]
    fn a_wrong_correlation_id_changes_nothing_else() {
        let right = reply_to_produce(&mut Asking::one_broker()).1;
        let wrong = reply_to_produce(&mut with(Fault::on(Api::Produce).wrong_correlation())).1;
        assert_ne!(right[4..8], wrong[4..8]);
        assert_eq!((&right[..4], &right[8..]), (&wrong[..4], &wrong[8..]));
    }

    #[test]
    fn raw_bytes_stand_in_for_the_answer() {
        let mut asking = with(Fault::on(Api::Produce).raw(*b"HTTP"));
        assert_eq!(reply_to_produce(&mut asking).1, b"\0\0\0\x04HTTP");
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn a_stalled_request_is_handled_when_the_fault_ends() {
        let mut asking = Asking::one_broker();
        let id = asking.state.faults.inject(Fault::on(Api::Produce).stall());
        let request = asking.produce_request(9, "t", 0, batch(1).bytes());
        let Reply::Park(parked) = asking.reply(1, 9, &request) else { panic!("answered") };
        assert!(!asking.state.is_ready(&parked, Timestamp::from_millis(i64::MAX)));
        assert_eq!((parked.deadline(), asking.state.count("t")), (None, 0));
        asking.state.faults.remove(id);
        assert!(asking.state.is_ready(&parked, asking.now));
        let Reply::Send { then: Then::Continue, .. } = asking.state.resume(*parked, asking.now) else {
            panic!("not answered")
        };
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn a_fault_skips_hits_so_often_and_is_over() {
        let mut asking = Asking::one_broker();
        let id = asking
            .state
            .faults
            .inject(Fault::on(Api::Produce).error(ErrorCode::NOT_LEADER_OR_FOLLOWER).skip(1).times(2));
        let codes: Vec<_> = (0..5).map(|_| asking.produce(9, "t", 0, batch(1).bytes()).error_code).collect();
        assert_eq!(codes, [0, 6, 6, 0, 0]);
        assert_eq!(asking.state.faults.hits(id), 2);
    }

    #[test]
    fn a_fault_bites_only_where_it_is_meant_to() {
        let cases = [
            (Fault::on(Api::Produce), true),
            (Fault::on_any(), true),
            (Fault::on(Api::Fetch), false),
            (Fault::on_any().node(1), true),
            (Fault::on_any().node(2), false),
            (Fault::on_any().topic("t"), true),
            (Fault::on_any().topic("other"), false),
            (Fault::on_any().topic("t").partition(0), true),
            (Fault::on_any().topic("t").partition(1), false),
        ];
        for version in [9, 13] {
            for (fault, bites) in &cases {
                let mut asking = with(fault.clone().error(ErrorCode::NOT_ENOUGH_REPLICAS));
                let code = asking.produce(version, "t", 0, batch(1).bytes()).error_code;
                assert_eq!(code == 19, *bites, "{fault:?} in version {version}");
            }
        }
    }

    #[test]
    fn an_error_after_the_append_is_told_although_the_batch_is_there() {
        let mut asking = with(Fault::on(Api::Produce).error_after(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND));
        let answer = asking.produce(9, "t", 0, batch(1).bytes());
        assert_eq!((answer.error_code, answer.base_offset), (20, 0));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn errors_of_whole_requests() {
        let mut asking = with(Fault::on(Api::InitProducerId).error(ErrorCode::COORDINATOR_NOT_AVAILABLE).times(1));
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let refused = asking.ask(1, 4, &request);
        assert_eq!((refused.error_code, *refused.producer_id), (15, -1));
        let first = asking.ask(1, 4, &request);
        let second = asking.ask(1, 4, &request);
        assert_eq!((first.error_code, first.producer_epoch), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
    }

    #[test]
    fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
        let mut asking = Asking::one_broker();
        let bytes = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 0]);
        let Reply::Send { bytes, then: Then::Continue, .. } = asking.state.receive(1, &bytes, asking.now) else {
            panic!("closed")
        };
        let mut body = Bytes::from(bytes).slice(8..);
        let response = ApiVersionsResponse::decode(&mut body, 0).unwrap();
        let range = &response.api_keys[0];
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        assert_eq!((range.api_key, range.min_version, range.max_version), (18, 0, 4));
    }

    #[test]
    fn brokers_offer_what_the_cluster_was_built_with() {
        let builder = ClusterBuilder::new().without_api(Api::InitProducerId).api_version(Api::Metadata, 1, 4);
        let mut asking = Asking::with(builder);
        let offered = asking.ask(1, 3, &api_versions(3)).api_keys;
        let find = |key: ApiKey| offered.iter().find(|api| api.api_key == key as i16);
        let range = |key| find(key).map(|api| (api.min_version, api.max_version));
        assert_eq!(range(ApiKey::InitProducerId), None);
        assert_eq!(range(ApiKey::Metadata), Some((1, 4)));
        assert_eq!(range(ApiKey::Produce), Some((0, 13)));
        let closed = |reply| matches!(reply, Reply::Send { bytes, then: Then::Close, .. } if bytes.is_empty());
        assert!(closed(asking.reply(1, 4, &InitProducerIdRequest::default())));
        assert!(closed(asking.reply(1, 5, &kafka_protocol::messages::MetadataRequest::default())));
    }

    #[test]
    fn bad_requests_close_the_connection() {
        let mut asking = Asking::one_broker();
        let metadata = frame(1, 9, &kafka_protocol::messages::MetadataRequest::default());
        let produce_of_version_2 = [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        let cases: &[(&str, &[u8])] = &[
            ("nothing", b""),
            ("one byte", b"x"),
            ("a header cut", &metadata[..7]),
            ("a body cut", &metadata[..metadata.len() - 2]),
            ("an unknown API", b"\x7f\x7f\0\0\0\0\0\x01\0\0"),
            ("more topics than bytes", b"\0\x03\0\x01\0\0\0\x01\0\0\x7f\xff\xff\xff"),
            ("a version that was removed", &produce_of_version_2),
            ("text", b"GET / HTTP/1.1\r\n\r\n"),
        ];
        for (what, bytes) in cases {
            let reply = asking.state.receive(1, &Bytes::copy_from_slice(bytes), asking.now);
            assert!(matches!(reply, Reply::Send { then: Then::Close, .. }), "{what}");
        }
        assert!(matches!(asking.state.receive(1, &metadata, asking.now), Reply::Send { then: Then::Continue, .. }));
    }
}
