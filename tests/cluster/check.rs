//! `Client::check`: it tries the brokers that the cluster tells of, and says which of them cannot be reached.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{CheckError, ConnectionError, ConnectionErrorKind};

use crate::common::*;

#[test]
fn a_cluster_whose_brokers_can_all_be_reached_has_nothing_to_report() {
    let cluster = Cluster::builder().brokers(3).start().unwrap();
    let info = quick(&cluster.bootstrap()).build().unwrap().check(LONG).unwrap();
    assert_eq!(info.brokers.len(), 3);
    assert!(info.unreachable.is_empty(), "{:?}", info.unreachable);
}

#[test]
fn an_advertised_address_where_nobody_listens_is_reported_beside_the_good_ones() {
    let cluster = Cluster::builder().brokers(3).start().unwrap();
    cluster.advertise(2, "127.0.0.1", closed_port());
    cluster.advertise(3, "host.invalid", 9092);
    let info = quick(&cluster.bootstrap()).build().unwrap().check(LONG).unwrap();
    assert_eq!(info.brokers.len(), 3);
    assert_eq!(nodes(&info.unreachable), [2, 3]);
    let kind = &info.unreachable[0].kind;
    assert!(matches!(kind, ConnectionErrorKind::Connect(_)), "{kind:?}");
    assert_eq!(&*info.unreachable[1].address, "host.invalid:9092");
    assert_says_who(&info.unreachable);
}

#[test]
fn a_cluster_of_which_no_broker_can_be_reached_where_it_says_is_an_error_at_once() {
    let cluster = Cluster::start().unwrap();
    let port = closed_port();
    cluster.advertise(1, "127.0.0.1", port);
    let began = Instant::now();
    let error = quick(&cluster.bootstrap()).build().unwrap().check(LONG).unwrap_err();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    let text = error.to_string();
    let CheckError::Unreachable { errors, .. } = error else { panic!("{text}") };
    assert_eq!(nodes(&errors), [1]);
    assert_says_who(&errors);
    assert!(text.contains(&format!("broker 1 at 127.0.0.1:{port}")), "{text}");
}

#[test]
fn addresses_that_hang_take_the_time_of_none_and_all_of_it_together() {
    let cluster = Cluster::builder().brokers(4).start().unwrap();
    // The system takes the connections, and nobody ever answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for node in [1, 2] {
        cluster.advertise(node, "127.0.0.1", mute.local_addr().unwrap().port());
    }
    cluster.advertise(3, "127.0.0.1", closed_port());
    let within = Duration::from_millis(700);
    let began = Instant::now();
    let info = quick(&cluster.bootstrap()).build().unwrap().check(within).unwrap();
    let took = began.elapsed();
    assert!(took >= within && took < 3 * within, "{took:?}");
    assert_eq!(nodes(&info.unreachable), [1, 2, 3]);
    for error in &info.unreachable[..2] {
        assert!(matches!(error.kind, ConnectionErrorKind::CheckTimeout(after) if after == within), "{error}");
    }
    assert_says_who(&info.unreachable);
}

#[test]
fn a_seed_that_hangs_is_named() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let error = quick(&address).build().unwrap().check(Duration::from_millis(300)).unwrap_err();
    assert!(error.to_string().contains(&format!("broker {address}: no connection within the 300ms")), "{error}");
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn nodes(errors: &[ConnectionError]) -> Vec<i32> {
    errors.iter().map(|error| error.advertised.as_ref().unwrap().node).collect()
}

fn assert_says_who(errors: &[ConnectionError]) {
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("says that it is there: check its advertised.listeners"), "{text}");
    }
}
