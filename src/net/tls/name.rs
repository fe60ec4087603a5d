//! The name that a broker's certificate must have, from the host that was connected to. Pure.

use std::net::IpAddr;

use rustls::pki_types::ServerName;

/// `None` if no certificate can have it, as with letters beyond ASCII.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    // The zone of an IPv6 address has a meaning on this machine only.
    let address = host.split('%').next().unwrap_or(host);
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Some(ip.into());
    }
    // The final dot says that a name is whole. Certificates have none (RFC 6066, section 3).
    let name = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(name.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_an_address_is_what_its_certificate_has() {
        for (host, name) in [
            ("kafka-1.example.org", "DnsName(\"kafka-1.example.org\")"),
            ("kafka-1.example.org.", "DnsName(\"kafka-1.example.org\")"),
            ("localhost", "DnsName(\"localhost\")"),
            ("kafka_1", "DnsName(\"kafka_1\")"),
            ("10.0.0.7", "IpAddress(10.0.0.7)"),
            ("::1", "IpAddress(::1)"),
            ("fe80::1%eth0", "IpAddress(fe80::1)"),
        ] {
            let found = server_name(host).unwrap();
            let found = match &found {
                ServerName::IpAddress(ip) => format!("IpAddress({})", IpAddr::from(*ip)),
                other => format!("{other:?}"),
            };
            assert_eq!(found, name, "{host}");
        }
        for host in ["b\u{fc}cher.example", ".", "", "a..b"] {
            assert!(server_name(host).is_none(), "{host}");
        }
    }
}
