//! Frames that cannot be: sizes, cuts, counts and tags that lie. No lie costs a message, memory or the process.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, MetadataResponse, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use ottla::testing::{Api, Cluster, ClusterBuilder};
use ottla::{ConnectionErrorKind, Persistence};

use crate::common::*;
use crate::liar::Liar;
use crate::links::Link;
use crate::meddler::{Answer, Asked, framed, honest};

#[test]
fn a_size_that_cannot_be_closes_the_connection_whenever_it_comes() {
    for link in Link::all() {
        let apis = apis(&link);
        let mut liar = Liar::on(link, newest());
        for api in apis {
            for size in [-1, i32::MIN, 16 * 1024 * 1024 + 5000, 16 * 1024 * 1024 + 1] {
                let connections = liar.once(api, move |_, _| Answer::Bytes(size.to_be_bytes().to_vec()));
                assert!(connections >= 2, "{api:?}: size {size}");
            }
        }
    }
}

#[test]
fn a_size_that_cannot_be_is_told_with_the_limit() {
    for (size, limit) in [(-2_i32, 16_777_216), (16_782_216, 16_777_216)] {
        let error = Liar::new().always(ApiKey::Produce, move |_, _| Answer::Bytes(size.to_be_bytes().to_vec()));
        assert_eq!(error.persistence(), Persistence::Possibly);
        let kind = connection(error.kind()).kind.clone();
        let is_expected = matches!(kind, ConnectionErrorKind::BadSize { size: s, limit: l, .. } if s == i64::from(size) && l == limit);
        assert!(is_expected, "{error}");
        for part in [&*size.to_string(), &limit.to_string(), "a response to Produce", "raise max_response_bytes"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn sizes_that_lie_take_no_memory() {
    alone("frames::sizes_that_lie_take_no_memory", || {
        let mut liar = Liar::new();
        liar.once(ApiKey::Produce, |_, response| honest(&response));
        let before = peak_kib();
        for _ in 0..10 {
            // The largest that is allowed, and more.
            for size in [16 * 1024 * 1024, 16 * 1024 * 1024 + 5000, -1] {
                liar.once(ApiKey::Produce, move |_, _| Answer::Last([&i32::to_be_bytes(size)[..], &[7; 9]].concat()));
            }
        }
        let grown = peak_kib() - before;
        assert!(grown < 8 * 1024, "{grown} KiB more");
    });
}

#[test]
fn a_response_cut_inside_its_frame_is_not_believed() {
    // With a login it is the same, and each try takes seconds. Within TLS some lengths are enough, at which frames end.
    let links = Link::all().into_iter().filter(|link| !link.logs_in());
    let links = links.map(|link| (link, newest as fn() -> ClusterBuilder));
    for (link, versions) in links.chain([(Link::plain(), oldest as _)]) {
        let step = if link.is_plain() { 1 } else { 7 };
        let mut liar = Liar::on(link, versions());
        for api in APIS {
            let mut length = 0;
            loop {
                let (tell, told) = std::sync::mpsc::channel();
                let connections = liar.once(api, move |_, response| {
                    tell.send(response.len()).unwrap();
                    honest(&response[..length.min(response.len() - 1)])
                });
                assert!(connections >= 2, "{api:?} cut to {length} bytes was believed");
                if told.recv().unwrap() <= length + 1 {
                    break;
                }
                length += step;
            }
        }
    }
}

#[test]
fn bytes_behind_a_response_are_ignored() {
    let mut liar = Liar::new();
    for api in APIS {
        for more in [1, 7, 10_000] {
            let connections = liar.once(api, move |_, response| honest(&[&response[..], &vec![0xa5; more]].concat()));
            assert_eq!(connections, 1, "{api:?} with {more} bytes more");
        }
    }
}

#[test]
fn a_count_that_lies_is_an_error_and_not_the_end_of_the_process() {
    let classic = [[0, 0, 0x13, 0x88], [0x80, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], [0, 0, 0x27, 0x10]];
    let compact = [&[0x89, 0x27][..], &[0x91, 0x4e], &[0], &[0x80; 6]];
    for (versions, counts) in
        [(oldest as fn() -> ClusterBuilder, classic.each_ref().map(|count| &count[..])), (newest, compact)]
    {
        let mut liar = Liar::of(versions());
        for count in counts {
            // What stands before the first count of each response.
            for (api, before) in [(ApiKey::ApiVersions, 2), (ApiKey::Metadata, 4), (ApiKey::Produce, 0)] {
                let count = count.to_vec();
                let connections = liar.once(api, move |asked, _| {
                    // Metadata has no throttle time before version 3.
                    let before = if asked.version < 3 && api == ApiKey::Metadata { 0 } else { before };
                    asked.with_body(&[&vec![0; before], &count[..], &[0; 3]].concat())
                });
                assert!(connections >= 2, "{api:?} with a count of {count:02x?}", count = counts);
            }
        }
    }
}

#[test]
fn a_response_that_cannot_be_read_is_told_with_its_api() {
    for (api, persistence) in [(ApiKey::Metadata, Persistence::No), (ApiKey::Produce, Persistence::Possibly)] {
        let error = Liar::new().always(api, |asked, _| asked.with_body(&[0x80; 10]));
        let kind = connection(error.kind()).kind.clone();
        let ConnectionErrorKind::BadResponse { api: told, .. } = kind else { panic!("{error}") };
        assert_eq!((told, error.persistence()), (&*format!("{api:?}"), persistence));
        assert!(error.to_string().contains("check what stands between here and the broker"), "{error}");
    }
}

#[test]
fn tags_that_nobody_knows_are_passed_over_whatever_their_size() {
    let mut liar = Liar::new();
    let tag = || (200, Bytes::from(vec![0xff; 100_000]));
    for round in 0..2 {
        let connections = [
            liar.once(ApiKey::ApiVersions, move |asked, response| {
                let mut body: ApiVersionsResponse = asked.decode(&response);
                body.unknown_tagged_fields.extend([tag()]);
                body.api_keys[0].unknown_tagged_fields.extend([tag()]);
                asked.encode(&body)
            }),
            liar.once(ApiKey::Metadata, move |asked, response| {
                let mut body: MetadataResponse = asked.decode(&response);
                body.unknown_tagged_fields.extend([tag()]);
                body.brokers[0].unknown_tagged_fields.extend([tag()]);
                body.topics[0].unknown_tagged_fields.extend([tag()]);
                body.topics[0].partitions[1].unknown_tagged_fields.extend([tag()]);
                asked.encode(&body)
            }),
            liar.once(ApiKey::Produce, move |asked, response| {
                let mut body: ProduceResponse = asked.decode(&response);
                body.unknown_tagged_fields.extend([tag()]);
                body.responses[0].unknown_tagged_fields.extend([tag()]);
                body.responses[0].partition_responses[0].unknown_tagged_fields.extend([tag()]);
                asked.encode(&body)
            }),
        ];
        assert_eq!(connections, [1; 3], "round {round}");
    }
}

#[test]
fn tags_that_lie_about_their_size_are_an_error() {
    let mut liar = Liar::new();
    for api in APIS {
        for lie in [&[1, 9, 0x88, 0x27][..], &[1, 9, 5, 0], &[0x88, 0x27, 9, 0]] {
            let lie = lie.to_vec();
            let connections = liar.once(api, move |asked, response| {
                let response = if api == ApiKey::ApiVersions { without_features(asked, &response) } else { response };
                // The last byte is the count of tags: none.
                let (count, body) = response.split_last().unwrap();
                assert_eq!(*count, 0);
                honest(&[body, &lie].concat())
            });
            assert!(connections >= 2, "{api:?}");
        }
    }
}

/// The response of a broker that has no features, which are tags.
fn without_features(asked: Asked, response: &[u8]) -> Vec<u8> {
    let mut body: ApiVersionsResponse = asked.decode(response);
    body.supported_features.clear();
    (body.finalized_features_epoch, body.finalized_features) = (-1, Vec::new());
    let Answer::Bytes(frame) = asked.encode(&body) else { unreachable!("it ends nothing") };
    frame[4..].to_vec()
}

#[test]
fn names_that_are_no_text_or_very_long_cost_nothing() {
    for versions in [newest as fn() -> ClusterBuilder, oldest] {
        let mut liar = Liar::of(versions());
        let connections = liar.once(ApiKey::Metadata, |_, mut response| {
            let name = response.windows(6).position(|bytes| bytes == b"orders").unwrap();
            response[name + 2] = 0xff;
            honest(&response)
        });
        assert!(connections >= 2, "it was believed");
        let connections = liar.once(ApiKey::Metadata, |asked, response| {
            let mut body: MetadataResponse = asked.decode(&response);
            let long = StrBytes::from_string("n".repeat(32_767));
            let mut topic = body.topics[0].clone();
            topic.name = Some(long.clone().into());
            let mut broker = body.brokers[0].clone();
            (broker.node_id, broker.host) = (77.into(), long);
            body.brokers.push(broker);
            body.topics.insert(0, topic);
            asked.encode(&body)
        });
        assert_eq!(connections, 1, "what was not asked for is no error");
    }
    let error = Liar::new().always(ApiKey::Metadata, |_, mut response| {
        let name = response.windows(6).position(|bytes| bytes == b"orders").unwrap();
        response[name] = 0xc0;
        Answer::Bytes(framed(&response))
    });
    for part in ["Metadata", "name", "UTF-8"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

/// What is asked on this link, each before a message is delivered.
fn apis(link: &Link) -> Vec<ApiKey> {
    let login = [ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
    if link.logs_in() { [&login[..], &APIS].concat() } else { APIS.to_vec() }
}

const APIS: [ApiKey; 4] = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce];

/// Brokers that speak the flexible versions.
fn newest() -> ClusterBuilder {
    Cluster::builder()
}

/// Brokers that speak the versions before those.
fn oldest() -> ClusterBuilder {
    Cluster::builder()
        .api_version(Api::ApiVersions, 0, 2)
        .api_version(Api::Metadata, 0, 8)
        .api_version(Api::InitProducerId, 0, 1)
        .api_version(Api::Produce, 0, 8)
}

/// The most memory that this process ever had.
#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
