//! Which addresses no upstream may have, whatever its name.
//!
//! Loopback and private ranges are permitted: upstream URLs are set by operators. Refused are the
//! places where clouds keep instance credentials, everything that is not one host, and the forms in
//! which one address hides another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a connection to `address` is out of the question.
pub(crate) fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => is_refused_v6(v6),
    }
}

fn is_refused_v4(address: Ipv4Addr) -> bool {
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    let first = address.octets()[0];
    first == 0
        || first >= 240
        || address.is_link_local()
        || address.is_multicast()
        || METADATA.contains(&address)
}

fn is_refused_v6(address: Ipv6Addr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_refused_v4(mapped);
    }
    if address == Ipv6Addr::LOCALHOST {
        return false;
    }
    let segments = address.segments();
    match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => return is_refused_v4(embedded(high, low)),
        // IPv4-compatible (and the unspecified address), IPv4-translated, local NAT64, Teredo, 6to4.
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x0064, 0xff9b, 1, ..]
        | [0x2001, 0, ..]
        | [0x2002, ..] => return true,
        _ => {}
    }
    let link_local = segments[0] & 0xffc0 == 0xfe80;
    link_local || address.is_multicast() || address == METADATA
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn permitted_classes_pass() {
        for good in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "::1",
            "fd12::1",
            "2606:4700::1",
            "::ffff:10.0.0.1",
            "64:ff9b::8.8.8.8",
            "192.0.0.191",
            "2001:db8::1",
        ] {
            assert!(!is_refused(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn refused_classes_are_refused_in_every_spelling() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "ff01::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b:1::a00:1",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "::169.254.169.254",
            "::a00:1",
            "::ffff:0:10.0.0.1",
        ] {
            assert!(is_refused(bad.parse().unwrap()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_like_the_one_it_hides(bits in any::<u32>()) {
            let plain = Ipv4Addr::from(bits);
            prop_assert_eq!(is_refused(plain.into()), is_refused(plain.to_ipv6_mapped().into()));
        }

        #[test]
        fn link_local_is_refused_whatever_the_rest(low in any::<u16>()) {
            let [c, d] = low.to_be_bytes();
            prop_assert!(is_refused(Ipv4Addr::new(169, 254, c, d).into()));
        }
    }
}
