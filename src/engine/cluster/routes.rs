//! Decides which connections to open: to the brokers that something waits for, and, for requests that any broker can
//! answer, to a known broker or a bootstrap address, in turn.

use std::time::{Duration, Instant};

use super::demand::Demand;
use super::link::{Link, Peer};
use super::links::Links;
use crate::deadline::Deadline;

/// The round of bootstrap addresses and brokers, for requests that any of them can answer.
#[derive(Debug)]
pub struct Routes {
    /// The place in the round.
    turn: usize,
    /// The time since which a request that any broker can answer has no answer, and the time at which the last
    /// connection for it alone was begun.
    wanting_since: Option<Instant>,
    last_attempt: Option<Instant>,
}

/// Connections that did not bring the answer after this long are not waited for alone: another address is tried beside
/// them.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(1);

impl Routes {
    /// Begins the round at this place.
    #[must_use]
    pub fn new(turn: usize) -> Self {
        Self { turn, wanting_since: None, last_attempt: None }
    }

    /// Notes if a request that any broker can answer waits for its turn or its answer, and since when.
    pub fn note_wanting(&mut self, wanting: bool, now: Instant) {
        if wanting {
            self.wanting_since.get_or_insert(now);
        } else {
            self.wanting_since = None;
        }
    }

    /// The broker or address to connect to for a request that any broker can answer, while none is ready for it.
    pub fn next(&mut self, links: &Links, demand: &impl Demand, now: Instant) -> Option<Peer> {
        if is_one_on_its_way(links, demand) && !self.next_turn().passed(now) {
            return None;
        }
        let peer = self.next_candidate(links, now)?;
        self.last_attempt = Some(now);
        Some(peer)
    }

    /// The moment at which there is something to do about the links without any input; `needs_any` says that a request
    /// waits that any broker can answer, and none is ready for it.
    #[must_use]
    pub fn next_deadline(&self, links: &Links, demand: &impl Demand, needs_any: bool) -> Deadline {
        // While one address hangs the next one gets its turn.
        let turn = if needs_any && is_one_on_its_way(links, demand) { self.next_turn() } else { Deadline::NEVER };
        let mut earliest = Deadline::NEVER;
        for (peer, link) in links.iter() {
            earliest = earliest.min(links.next_deadline(link));
            if peer.is_node_of(|node| demand.needs_node(node)) {
                earliest = earliest.min(link.may_connect_at());
            } else if needs_any && link.is_down() && !is_led_to_twice(links, peer, link) {
                earliest = earliest.min(link.may_connect_at().max(turn));
            }
        }
        earliest
    }

    /// The moment at which another address is tried beside the connection that is on its way.
    fn next_turn(&self) -> Deadline {
        let after = |moment: Option<Instant>| {
            moment.map_or(Deadline::NEVER, |moment| Deadline::after(moment, NEXT_ADDRESS_AFTER))
        };
        after(self.wanting_since).max(after(self.last_attempt))
    }

    /// A broker that has not failed, else all in turn, bootstrap addresses included (KIP-899).
    fn next_candidate(&mut self, links: &Links, now: Instant) -> Option<Peer> {
        let free: Vec<(Peer, bool)> = links
            .iter()
            .filter(|(peer, link)| link.may_connect(now) && !is_led_to_twice(links, *peer, link))
            .map(|(peer, link)| (peer, is_good(peer, link)))
            .collect();
        let good: Vec<Peer> = free.iter().filter(|(_, good)| *good).map(|(peer, _)| *peer).collect();
        let candidates = if good.is_empty() { free.into_iter().map(|(peer, _)| peer).collect() } else { good };
        if candidates.is_empty() {
            return None;
        }
        self.turn = self.turn.wrapping_add(1);
        candidates.get(self.turn % candidates.len()).copied()
    }
}

/// `true` if a connection is on its way, or will be at once, because something waits for that broker. One to a broker
/// that has just failed is not worth the wait, if another is known that has not.
fn is_one_on_its_way(links: &Links, demand: &impl Demand) -> bool {
    let is_free = |(peer, link): (Peer, &Link)| link.is_down() && is_good(peer, link);
    links.iter().any(|(peer, link)| {
        let wanted = || peer.is_node_of(|node| demand.needs_node(node));
        let is_coming = link.is_starting() || (link.is_down_for_a_moment() && wanted());
        is_coming && !(link.is_failing() && links.iter().any(is_free))
    })
}

/// `true` if this is a broker that has not failed since it last answered.
fn is_good(peer: Peer, link: &Link) -> bool {
    matches!(peer, Peer::Node(_)) && !link.is_failing()
}

/// `true` if this is a bootstrap address that is also the address of a broker's own link, which is enough unless that
/// link must not be used for long.
fn is_led_to_twice(links: &Links, peer: Peer, link: &Link) -> bool {
    let same = |node: &Link| node.listed && node.address == link.address && !node.is_throttled();
    matches!(peer, Peer::Seed(_)) && links.to_nodes().any(same)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{BrokerAddress, ClientConfig};
    use crate::engine::cluster::causes::{Standing, Subject};
    use crate::engine::cluster::demand::TopicDemand;
    use crate::ids::{NodeId, TopicIndex};
    use crate::message::Topic;
    use crate::wire::api::api_versions::Versions;

    const ONE: NodeId = NodeId(1);

    /// Something waits for broker 1.
    struct WaitsForOne;

    impl Demand for WaitsForOne {
        fn is_busy(&self) -> bool {
            true
        }

        fn needs_any_broker(&self) -> bool {
            false
        }

        fn next_node(&self, after: Option<NodeId>) -> Option<NodeId> {
            (after < Some(ONE)).then_some(ONE)
        }

        fn needs_node(&self, node: NodeId) -> bool {
            node == ONE
        }

        fn topic_count(&self) -> usize {
            0
        }

        fn topic_name(&self, _: TopicIndex) -> Option<&Topic> {
            None
        }

        fn is_topic(&self, _: TopicIndex, _: TopicDemand, _: Instant) -> bool {
            false
        }

        fn standing(&self, _: Subject, _: Instant) -> Standing {
            Standing::Over
        }
    }

    /// Brokers 1 to `count`, of which the first has a connection that is `ready` or on its way.
    fn links(count: i32, ready: bool, now: Instant) -> Links {
        let address = |port| BrokerAddress { host: "b".into(), port };
        let mut links = Links::new(Arc::new(ClientConfig::new(vec![address(9)])), 0);
        for node in 1..=count {
            links.get_or_make(Peer::Node(NodeId(node)), address(node as u16));
        }
        links.connect(Peer::Node(ONE), now).expect("a good address");
        let link = links.get_mut(Peer::Node(ONE)).expect("made above");
        if ready {
            link.opened(now);
            link.greeted(Versions::default());
        }
        links
    }

    /// The connection to broker 1 ends, and another one is begun as soon as that is allowed.
    fn fail(links: &mut Links, now: Instant) {
        let timeouts = links.timeouts().clone();
        let _ = links.get_mut(Peer::Node(ONE)).expect("it is known").failed(now, &timeouts, 0);
        if links.get(Peer::Node(ONE)).is_some_and(|link| link.may_connect(now)) {
            links.connect(Peer::Node(ONE), now).expect("a good address");
        }
    }

    #[test]
    fn another_broker_is_asked_at_once_when_the_connection_to_the_only_one_ends() {
        let start = crate::engine::test_clock();
        let now = start + Duration::from_secs(60);
        for ready in [true, false] {
            let (mut links, mut routes) = (links(3, ready, start), Routes::new(0));
            fail(&mut links, now);
            assert_eq!(links.get(Peer::Node(ONE)).map(Link::is_starting), Some(ready), "closed, or refused");
            routes.note_wanting(true, now);
            let first = routes.next(&links, &WaitsForOne, now);
            assert!(matches!(first, Some(Peer::Node(NodeId(2 | 3)))), "{first:?}");
            links.connect(first.expect("seen above"), now).expect("a good address");
            assert_eq!(routes.next(&links, &WaitsForOne, now), None, "one at a time");
            assert!(routes.next(&links, &WaitsForOne, now + NEXT_ADDRESS_AFTER).is_some(), "it hangs");
        }
    }

    #[test]
    fn a_connection_that_is_on_its_way_is_waited_for_if_the_broker_has_not_failed_or_no_other_is_known() {
        let start = crate::engine::test_clock();
        for (others, fails) in [(2, false), (0, true)] {
            let (mut links, mut routes) = (links(1 + others, fails, start), Routes::new(0));
            let now = start + Duration::from_secs(60);
            if fails {
                fail(&mut links, now);
            }
            routes.note_wanting(true, now);
            assert_eq!(routes.next(&links, &WaitsForOne, now), None);
            assert!(routes.next(&links, &WaitsForOne, now + NEXT_ADDRESS_AFTER).is_some());
        }
    }
}
