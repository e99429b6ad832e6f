//! The address of a client, also behind proxies.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use http::{
    HeaderMap, HeaderName,
    header::{FORWARDED, HeaderValue},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer's, or the one that trusted proxies report.
///
/// A proxy appends the address of its own peer. So, from the end of the list, addresses of trusted proxies are skipped,
/// and the first other address is the client's; all before it may be forged. `Forwarded` is used if there is no
/// `X-Forwarded-For`.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_proxy = |address: &IpAddr| proxies.iter().any(|network| network.contains(*address));
    let mut client = peer.to_canonical();
    if !is_proxy(&client) {
        return client;
    }
    let entries: Vec<Option<IpAddr>> = if headers.contains_key(X_FORWARDED_FOR) {
        entries(headers, &X_FORWARDED_FOR).map(address).collect()
    } else {
        entries(headers, &FORWARDED).map(forwarded_for).collect()
    };
    for entry in entries.into_iter().rev() {
        // If an entry is malformed, the proxy that wrote it is the nearest known address.
        let Some(address) = entry else { break };
        client = address;
        if !is_proxy(&client) {
            break;
        }
    }
    client
}

/// Proxies whose forwarding headers are trusted, for requests that a program handles beside the socket.
///
/// ```
/// # use adsum_channels as adsum;
/// use adsum::TrustedProxies;
/// use http::HeaderMap;
///
/// let proxies: TrustedProxies = "10.0.0.0/8, ::1".parse()?;
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "192.0.2.1".parse()?);
/// assert_eq!(proxies.client_address("10.0.0.7".parse()?, &headers).to_string(), "192.0.2.1");
/// assert_eq!(proxies.client_address("192.0.2.9".parse()?, &headers).to_string(), "192.0.2.9");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// The error of an entry that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a proxy; write an address such as \"10.0.0.1\" or a network such as \"10.0.0.0/8\"")]
pub struct InvalidProxy(String);

impl TrustedProxies {
    /// Returns the client's address: that of the connection, or the one that these proxies report, as
    /// [`SocketBuilder::trusted_proxies`](crate::SocketBuilder::trusted_proxies) describes.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.0)
    }

    pub(crate) fn new<'p>(list: impl IntoIterator<Item = &'p str>) -> Result<Self, InvalidProxy> {
        let networks =
            list.into_iter().map(|text| Network::parse(text).ok_or_else(|| InvalidProxy(text.to_owned())));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// Parses a comma-separated list of addresses and networks. An empty text is an empty list.
impl FromStr for TrustedProxies {
    type Err = InvalidProxy;

    fn from_str(list: &str) -> Result<Self, InvalidProxy> {
        Self::new(list.split(',').map(str::trim).filter(|text| !text.is_empty()))
    }
}

/// The address under which clients are counted: an IPv4 address, or an IPv6 /64 network, which belongs to one client.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

/// Whether an address belongs to this machine or a private network, so that it may be a proxy's.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// A network such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    base: IpAddr,
    prefix: u32,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { base, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()).leading_zeros() >= self.prefix
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()).leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

/// The entries of a list that may span several headers.
fn entries<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line: &HeaderValue| line.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// `192.0.2.1`, `192.0.2.1:4000`, `2001:db8::1` or `[2001:db8::1]:4000`.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// `for=192.0.2.1;proto=https`, from RFC 7239.
fn forwarded_for(entry: &str) -> Option<IpAddr> {
    let pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut of = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for"));
    address(of.next()?.1.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, proxies: &[&str], headers: &[(&'static str, &str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a test's header"))
        });
        // Headers with the same name are appended.
        let headers = headers.fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
        let proxies: Vec<_> = proxies.iter().map(|text| Network::parse(text).expect("a network")).collect();
        client_address(peer.parse().expect("an address"), &headers, &proxies).to_string()
    }

    #[test]
    fn without_a_trusted_proxy_the_peer_is_the_client() {
        assert_eq!(client("1.1.1.1", &[], &[("x-forwarded-for", "2.2.2.2")]), "1.1.1.1");
        assert_eq!(client("1.1.1.1", &["10.0.0.0/8"], &[("x-forwarded-for", "2.2.2.2")]), "1.1.1.1");
        assert_eq!(client("::ffff:1.1.1.1", &[], &[]), "1.1.1.1");
    }

    #[test]
    fn the_last_entry_that_is_no_proxy_is_the_client() {
        let behind = |headers: &[(&'static str, &str)]| client("10.0.0.1", &["10.0.0.0/8", "::1"], headers);
        assert_eq!(behind(&[("x-forwarded-for", "9.9.9.9, 2.2.2.2, 10.1.1.1")]), "2.2.2.2");
        assert_eq!(behind(&[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "2.2.2.2")]), "2.2.2.2");
        assert_eq!(behind(&[("x-forwarded-for", "9.9.9.9, 2.2.2.2:80, 10.0.0.9:5")]), "2.2.2.2");
        assert_eq!(behind(&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
        assert_eq!(behind(&[("x-forwarded-for", "9.9.9.9, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(behind(&[("x-forwarded-for", "[2001:db8::1]:80")]), "2001:db8::1");
        assert_eq!(behind(&[]), "10.0.0.1");
        assert_eq!(
            behind(&[("forwarded", "for=9.9.9.9, For=\"[2001:db8::1]:80\";proto=https")]),
            "2001:db8::1"
        );
        assert_eq!(behind(&[("forwarded", "for=9.9.9.9, proto=https")]), "10.0.0.1");
        // A client can send `Forwarded` through a proxy that knows only the other one.
        assert_eq!(behind(&[("x-forwarded-for", "2.2.2.2"), ("forwarded", "for=9.9.9.9")]), "2.2.2.2");
    }

    #[test]
    fn one_client_has_a_network_of_ipv6() {
        let counted = |text: &str| counted(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn networks_are_read_strictly() {
        for bad in ["10.0.0.0/33", "10.0.0/8", "localhost", "::/129", "10.0.0.0/-1", ""] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        let all = Network::parse("0.0.0.0/0").expect("a network");
        assert!(all.contains("9.9.9.9".parse().expect("an address")));
        assert!(!all.contains("::1".parse().expect("an address")));
    }
}
