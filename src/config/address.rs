//! Reads the address of a broker, in the forms that ruby-kafka accepts and no other. Looks up no name.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::BrokerAddress;
use crate::error::InvalidAddress;

/// The port of an address that names none: Kafka's own default.
const DEFAULT_PORT: u16 = 9092;

/// The longest host name, in bytes (RFC 1035, with the final dot).
const MAX_HOST: usize = 254;

impl FromStr for BrokerAddress {
    type Err = InvalidAddress;

    /// Reads `host`, `host:port`, `[::1]:port`, or one of these behind `kafka://` or `plaintext://`.
    ///
    /// Without a port it is 9092.
    ///
    /// # Errors
    /// [`InvalidAddress`] with the text and what is wrong with it. `ssl://` and `kafka+ssl://` are refused, never taken
    /// for plaintext: an address has no place for them.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (address, asks_for) = Self::with_security(text)?;
        if asks_for == Some(Security::Tls) {
            let why = "it asks for TLS, which an address by itself cannot; write host:port, and set tls on the client";
            return Err(InvalidAddress::new(text, why));
        }
        Ok(address)
    }
}

/// What the scheme of a seed asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plaintext,
    Tls,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl BrokerAddress {
    /// The address in a text, and what its scheme asks for, if anything.
    pub(crate) fn with_security(text: &str) -> Result<(Self, Option<Security>), InvalidAddress> {
        parse(text).map_err(|why| InvalidAddress::new(text, why))
    }

    /// `true` if a host can have this name and port. An address from a user is sound; one from a broker may be
    /// anything.
    pub(crate) fn is_sound(&self) -> bool {
        let host = if self.host.contains(':') { check_ipv6(&self.host) } else { check_name(&self.host) };
        host.is_ok() && self.port > 0
    }
}

fn parse(text: &str) -> Result<(BrokerAddress, Option<Security>), String> {
    if text.is_empty() {
        return Err("it is empty; write host:port".into());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it has spaces or control characters; write host:port".into());
    }
    if text.contains('@') {
        return Err("it names a user, which an address cannot; write host:port".into());
    }
    let (rest, security) = without_scheme(text)?;
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let Some((host, port)) = bracketed.split_once(']') else {
            return Err("the bracket of the IPv6 address is not closed; write [::1]:9092".into());
        };
        check_ipv6(host)?;
        match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if port.is_empty() => (host, None),
            None => return Err("only :port may follow the bracket; write [::1]:9092".into()),
        }
    } else {
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err("it has several colons; write host:port, and an IPv6 address as [::1]:9092".into());
        }
        check_name(host)?;
        (host, port)
    };
    let port = port.map_or(Ok(DEFAULT_PORT), parse_port)?;
    Ok((BrokerAddress { host: host.into(), port }, security))
}

/// The text behind the scheme, and what that asks for. It is never ignored, as by ruby-kafka, which would send messages in
/// the clear that were meant to be encrypted.
fn without_scheme(text: &str) -> Result<(&str, Option<Security>), String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok((text, None));
    };
    let security = match scheme.to_ascii_lowercase().as_str() {
        "kafka" => None,
        "plaintext" => Some(Security::Plaintext),
        "ssl" | "kafka+ssl" => Some(Security::Tls),
        _ => return Err("its scheme is not kafka://, plaintext:// or ssl://; write host:port".into()),
    };
    Ok((rest.strip_suffix('/').unwrap_or(rest), security))
}

fn check_ipv6(host: &str) -> Result<(), String> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let zone_is_good = zone.is_none_or(|zone| !zone.is_empty() && zone.chars().all(is_name_char));
    if address.parse::<Ipv6Addr>().is_ok() && zone_is_good {
        Ok(())
    } else {
        Err("what stands in brackets is not an IPv6 address; write [::1]:9092".into())
    }
}

fn check_name(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("the host is empty; write host:port".into());
    }
    if host.len() > MAX_HOST {
        return Err(format!("the host is longer than {MAX_HOST} bytes"));
    }
    if !host.chars().all(is_name_char) {
        return Err("the host may have only letters, digits, dots, hyphens and underscores; \
             write host:port"
            .into());
    }
    if !host.chars().any(char::is_alphanumeric) {
        return Err("the host has no letter and no digit; write host:port".into());
    }
    Ok(())
}

/// Not only ASCII: how a system resolves international names is its own affair.
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("the port is empty; write host:port, or host alone for port 9092".into());
    }
    // `parse` alone would accept a sign.
    let port = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 {
        return Err("the port is not a number from 1 to 65535".into());
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_are_addresses() {
        for (text, host, port) in [
            ("localhost", "localhost", 9092),
            ("kafka-1.example.org:9093", "kafka-1.example.org", 9093),
            ("kafka_1:1", "kafka_1", 1),
            ("kafka.example.org.:65535", "kafka.example.org.", 65535),
            ("10.0.0.7:09092", "10.0.0.7", 9092),
            ("[::1]:9094", "::1", 9094),
            ("[::1]", "::1", 9092),
            ("[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
            ("[::ffff:10.0.0.7]:1", "::ffff:10.0.0.7", 1),
            ("b\u{fc}cher.example:9092", "b\u{fc}cher.example", 9092),
            ("kafka://localhost", "localhost", 9092),
            ("kafka://localhost:9093", "localhost", 9093),
            ("KAFKA://localhost:9093/", "localhost", 9093),
            ("plaintext://localhost:9093", "localhost", 9093),
            ("PLAINTEXT://[::1]:9093", "::1", 9093),
        ] {
            let address: BrokerAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((&*address.host, address.port), (host, port), "{text}");
        }
    }

    #[test]
    fn these_are_not_addresses_and_the_error_says_why() {
        for (text, why) in [
            ("", "it is empty"),
            (" ", "spaces"),
            ("local host:9092", "spaces"),
            ("localhost:9092 ", "spaces"),
            ("localhost\n", "spaces"),
            ("a\0b:1", "control"),
            (":9092", "the host is empty"),
            ("kafka://", "the host is empty"),
            ("kafka://:9092", "the host is empty"),
            ("localhost:", "the port is empty"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("localhost:99999999999999999999", "1 to 65535"),
            ("localhost:-1", "1 to 65535"),
            ("localhost:+9092", "1 to 65535"),
            ("localhost:9092x", "1 to 65535"),
            ("localhost:kafka", "1 to 65535"),
            ("::1", "several colons"),
            ("::1:9092", "several colons"),
            ("a:1:2", "several colons"),
            ("[::1", "not closed"),
            ("[::1]9092", "only :port"),
            ("[localhost]:9092", "not an IPv6 address"),
            ("[]:9092", "not an IPv6 address"),
            ("[fe80::1%]:9092", "not an IPv6 address"),
            ("[fe80::1%e/h]:9092", "not an IPv6 address"),
            ("a/b:9092", "the host may have only"),
            ("kafka://a/b", "the host may have only"),
            ("kafka://a:1/topic", "1 to 65535"),
            ("a,b:9092", "the host may have only"),
            ("..", "no letter and no digit"),
            ("user@host:9092", "it names a user"),
            ("kafka://user:secret@host:9092", "it names a user"),
            ("http://localhost:9092", "its scheme is not"),
            ("sasl_ssl://localhost:9092", "its scheme is not"),
            ("://localhost", "its scheme is not"),
            ("ssl://localhost:9093", "it asks for TLS"),
            ("kafka+ssl://localhost:9093", "it asks for TLS"),
            ("SSL://localhost:9093", "it asks for TLS"),
        ] {
            let error = text.parse::<BrokerAddress>().expect_err(text);
            assert!(error.to_string().contains(why), "{text:?}: {error}");
            crate::error::tests::assert_reads_well(&error.to_string());
        }
        let long = "a".repeat(300).parse::<BrokerAddress>().unwrap_err();
        assert!(long.to_string().contains("longer than 254"), "{long}");
    }

    #[test]
    fn what_is_displayed_reads_back_the_same() {
        for text in ["localhost:9092", "[::1]:9093", "[fe80::1%eth0]:1"] {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_a_broker_tells_may_be_no_address() {
        let is_sound = |host: &str, port| BrokerAddress { host: host.into(), port }.is_sound();
        for host in ["kafka-1.example", "10.0.0.7", "::1", "fe80::1%eth0", "b\u{fc}cher.example"] {
            assert!(is_sound(host, 9092), "{host}");
            assert!(!is_sound(host, 0), "{host}");
        }
        for host in ["", "a b", "a\\nb", "kafka://a", "a:9092", "[::1]", "user@a", "a/b", &"a".repeat(300)] {
            assert!(!is_sound(host, 9092), "{host}");
        }
    }
}
