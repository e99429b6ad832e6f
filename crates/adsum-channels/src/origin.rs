//! Which web pages may use a socket.
//!
//! A browser sends the cookies of a site along with whatever page opens a socket to it, and names the page's
//! origin. So the origin has to be looked at, or any page could act as the user.

use std::fmt;

use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// The origins that are accepted. A request without one doesn't come from a page, and always is.
#[derive(Default)]
pub(crate) enum Origins {
    /// The host that the request is sent to.
    #[default]
    Host,
    Any,
    Listed(Vec<Pattern>),
    Checked(Check),
}

type Check = Box<dyn Fn(&str, &HeaderMap) -> bool + Send + Sync>;

impl Origins {
    pub(crate) fn accept(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return matches!(self, Self::Any) };
        match self {
            Self::Any => true,
            Self::Host => is_of_host(origin, headers, uri),
            Self::Listed(patterns) => {
                origin.parse().is_ok_and(|origin| patterns.iter().any(|pattern| pattern.matches(&origin)))
            }
            Self::Checked(check) => check(origin, headers),
        }
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Any => f.write_str("Any"),
            Self::Listed(patterns) => f.debug_tuple("Listed").field(patterns).finish(),
            Self::Checked(_) => f.write_str("Checked"),
        }
    }
}

fn is_of_host(origin: &str, headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(Authority::as_str));
    let host = host.and_then(|host| host.parse::<Uri>().ok());
    let origin = origin.parse::<Uri>().ok();
    match (host.as_ref().and_then(Uri::host), origin.as_ref().and_then(Uri::host)) {
        (Some(host), Some(origin)) => host.eq_ignore_ascii_case(origin),
        _ => false,
    }
}

/// An origin such as `https://example.com`; `//example.com` of any scheme; `//*.example.com` of all that is
/// below it. A port counts where one is named.
#[derive(Debug)]
pub(crate) struct Pattern {
    scheme: Option<String>,
    host: String,
    below: bool,
    port: Option<u16>,
}

impl Pattern {
    /// None where it isn't one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("//")?;
        let scheme = if scheme.is_empty() { None } else { Some(scheme.strip_suffix(':')?.to_owned()) };
        let (below, authority) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        let authority: Authority = authority.parse().ok()?;
        let (host, port) = (authority.host(), authority.port_u16());
        // What is neither host nor port, or a port that is no number, would be left out of account.
        let rest = authority.as_str().strip_prefix(host)?;
        let is_plain = !host.is_empty()
            && !host.contains('*')
            && (rest.is_empty() || (rest.starts_with(':') && port.is_some()));
        is_plain.then_some(Self { scheme, host: host.to_owned(), below, port })
    }

    fn matches(&self, origin: &Uri) -> bool {
        let Some(host) = origin.host() else { return false };
        let scheme = self.scheme.as_deref().is_none_or(|scheme| origin.scheme_str() == Some(scheme));
        let port = self.port.is_none_or(|port| origin.port_u16() == Some(port));
        let host = if self.below {
            let name = host.len().checked_sub(self.host.len() + 1).and_then(|at| host.split_at_checked(at));
            name.is_some_and(|(name, rest)| {
                !name.is_empty() && rest.starts_with('.') && rest[1..].eq_ignore_ascii_case(&self.host)
            })
        } else {
            host.eq_ignore_ascii_case(&self.host)
        };
        scheme && port && host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(origins: &Origins, origin: &str, host: &str) -> bool {
        let headers = [(ORIGIN, origin), (HOST, host)].map(|(name, value)| (name, value.parse().unwrap()));
        origins.accept(&HeaderMap::from_iter(headers), &Uri::from_static("/socket"))
    }

    #[test]
    fn a_page_of_another_host_is_of_another_origin() {
        let same = |origin, host| accepts(&Origins::Host, origin, host);
        assert!(same("http://localhost:4000", "localhost:4000"));
        assert!(same("https://Example.org", "example.org:8443"));
        assert!(same("http://[::1]:4000", "[::1]:4000"));
        assert!(!same("https://evil.org", "example.org"));
        assert!(!same("https://example.org.evil.org", "example.org"));
        assert!(!same("null", "example.org"));
        assert!(!same("file://", "example.org"));
        assert!(Origins::Host.accept(&HeaderMap::new(), &Uri::from_static("/socket")));
    }

    #[test]
    fn listed_origins_match_by_scheme_host_and_port_as_far_as_they_name_them() {
        let listed = |pattern, origin| {
            accepts(&Origins::Listed(vec![Pattern::parse(pattern).unwrap()]), origin, "elsewhere")
        };
        assert!(listed("https://example.com", "https://example.com"));
        assert!(listed("https://example.com", "https://EXAMPLE.com:8443"));
        assert!(!listed("https://example.com", "http://example.com"));
        assert!(!listed("https://example.com:443", "https://example.com:8443"));
        assert!(listed("//example.com", "http://example.com"));
        assert!(listed("//*.example.com", "https://a.b.example.com"));
        for origin in ["https://example.com", "https://evilexample.com", "https://.example.com", "null", "é"]
        {
            assert!(!listed("//*.example.com", origin), "{origin}");
        }
        for pattern in [
            "example.com",
            "*",
            "//",
            "//*",
            "//a.*.com",
            "https//example.com",
            "//me@example.com",
            "//example.com:x",
            "//[::1].com",
        ] {
            assert!(Pattern::parse(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_program_may_look_for_itself() {
        let checked =
            Origins::Checked(Box::new(|origin, headers| origin == "app://own" && headers.contains_key(HOST)));
        assert!(accepts(&checked, "app://own", "example.org"));
        assert!(!accepts(&checked, "https://example.org", "example.org"));
        assert!(accepts(&Origins::Any, "null", "example.org"));
    }
}
