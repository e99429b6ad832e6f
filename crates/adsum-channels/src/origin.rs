//! Checks which web pages may use a socket, and under which hosts.
//!
//! A browser sends a site's cookies with any page that opens a socket to it, and names the page's origin. Without a
//! check of the origin any page could act as the user.

use std::fmt;

use adsum_pubsub::log::limited;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{HOST, ORIGIN, REFERER},
    uri::Authority,
};

use crate::refusal::Refusal;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Maximum size of a header in a log line.
const MAX_SHOWN_BYTES: usize = 200;

/// The accepted origins and hosts.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    pub(crate) rule: OriginRule,
    /// Our own hosts. Empty to accept any.
    pub(crate) hosts: Vec<OwnHost>,
}

/// The accepted origins. A request without an origin doesn't come from a page, and is accepted.
#[derive(Default)]
pub(crate) enum OriginRule {
    /// The host and port that the request is sent to.
    #[default]
    Host,
    Any,
    Listed(Vec<Pattern>),
    Checked(Check),
}

type Check = Box<dyn Fn(&str, &HeaderMap) -> bool + Send + Sync>;

impl Origins {
    /// Checks whether the page that sends a request may use the socket, and whether it uses one of our own hosts.
    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
        let host = host_of(headers, uri);
        let refused = if comes_from_page(headers) && !self.is_own(host) {
            Refusal::Host
        } else if !self.accepts(headers, host) {
            Refusal::Origin
        } else {
            return Ok(());
        };
        let why = match (&refused, &self.rule) {
            (Refusal::Host, _) => "the request's `Host` is not one of `SocketBuilder::host`",
            (_, OriginRule::Listed(_)) => "the page's origin is not one of `SocketBuilder::origins`",
            (_, OriginRule::Checked(_)) => "`SocketBuilder::check_origin` does not accept the page's origin",
            _ => {
                "the page's origin is not the request's `Host`; add it to `SocketBuilder::origins`, or have the \
                 proxy pass `Host` on with its port"
            }
        };
        let origin = headers.get(ORIGIN).or_else(|| headers.get(REFERER)).map(HeaderValue::as_bytes);
        limited!(
            WARN,
            origin = shown(origin),
            host = shown(host.map(str::as_bytes)),
            "connect refused: {why}"
        );
        Err(refused)
    }

    fn is_own(&self, host: Option<&str>) -> bool {
        let is_own = |site: PageOrigin<'_>| self.hosts.iter().any(|own| own.matches(site));
        self.hosts.is_empty() || host.and_then(PageOrigin::of_host).is_some_and(is_own)
    }

    fn accepts(&self, headers: &HeaderMap, host: Option<&str>) -> bool {
        // Pages can't forge this header, and it is correct even if a proxy changes `Host`.
        let is_same_origin = || headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
        if matches!(self.rule, OriginRule::Any) || (matches!(self.rule, OriginRule::Host) && is_same_origin())
        {
            return true;
        }
        match headers.get(ORIGIN) {
            Some(origin) => origin.to_str().is_ok_and(|origin| self.accepts_origin(origin, headers, host)),
            // A page's GET to its own origin has no `Origin`; the POSTs that follow have one. Refuse the GET already:
            // phoenix.js takes a response to it for a connection, and retries at once when the connection is lost.
            None => match headers.get(REFERER).and_then(|referer| origin_of(referer.to_str().ok()?)) {
                Some(origin) => self.accepts_origin(&origin, headers, host),
                None => true,
            },
        }
    }

    fn accepts_origin(&self, origin: &str, headers: &HeaderMap, host: Option<&str>) -> bool {
        let uri = origin.parse::<Uri>().ok();
        let site = uri.as_ref().and_then(PageOrigin::of_origin);
        match &self.rule {
            OriginRule::Any => true,
            OriginRule::Host => match (host.and_then(PageOrigin::of_host), site) {
                (Some(host), Some(origin)) => {
                    let port = match host.port {
                        Some(_) => host.port == origin.port,
                        // Without TLS the one, behind a proxy that ends TLS the other.
                        None => matches!(origin.port, Some(80 | 443)),
                    };
                    port && host.host.eq_ignore_ascii_case(origin.host)
                }
                _ => false,
            },
            OriginRule::Listed(patterns) => {
                site.is_some_and(|origin| patterns.iter().any(|pattern| pattern.matches(origin)))
            }
            OriginRule::Checked(check) => check(origin, headers),
        }
    }
}

impl fmt::Debug for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Any => f.write_str("Any"),
            Self::Listed(patterns) => f.debug_tuple("Listed").field(patterns).finish(),
            Self::Checked(_) => f.write_str("Checked"),
        }
    }
}

/// Whether the request comes from a web page. All browsers send one of these headers with a WebSocket and with a POST,
/// without which a long poll session is useless.
fn comes_from_page(headers: &HeaderMap) -> bool {
    [ORIGIN, REFERER, SEC_FETCH_SITE].iter().any(|name| headers.contains_key(name))
}

/// The host that a request is sent to. In HTTP/2 it is in the URI.
fn host_of<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    match headers.get(HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(Authority::as_str),
    }
}

/// The origin of a page's address.
fn origin_of(address: &str) -> Option<String> {
    let uri = address.parse::<Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Formats a header for the log.
fn shown(value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    let cut = &value[..value.len().min(MAX_SHOWN_BYTES)];
    format!("{}{}", cut.escape_ascii(), if cut.len() < value.len() { "…" } else { "" })
}

/// The origin of a page, or the target of a request.
#[derive(Clone, Copy, Debug)]
struct PageOrigin<'a> {
    scheme: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> PageOrigin<'a> {
    /// Browsers omit the scheme's default port.
    fn of_origin(uri: &'a Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let (host, port) = host_and_port(authority)?;
        Some(Self { scheme: Some(scheme), host, port: port.or_else(|| default_port(scheme)) })
    }

    fn of_host(host: &'a str) -> Option<Self> {
        let (host, port) = split_port(host)?;
        Some(Self { scheme: None, host, port })
    }
}

fn host_and_port(authority: &Authority) -> Option<(&str, Option<u16>)> {
    split_port(authority.as_str())
}

/// Splits a host and its port. `None` if there is anything else, such as a user name.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let host_len = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_len);
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some("") => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        _ => return None,
    };
    let is_plain = !host.is_empty() && !host.contains(['@', '/', '*', ' ']);
    is_plain.then_some((host, port))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// One of our own hosts, on any port unless it names one.
#[derive(Debug)]
pub(crate) struct OwnHost {
    host: String,
    port: Option<u16>,
}

impl OwnHost {
    /// Returns `None` if it isn't a host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let (host, port) = host_and_port(&authority)?;
        Some(Self { host: host.to_owned(), port })
    }

    fn matches(&self, host: PageOrigin<'_>) -> bool {
        self.host.eq_ignore_ascii_case(host.host) && self.port.is_none_or(|port| host.port == Some(port))
    }
}

/// A pattern for origins: `https://example.com`, with the scheme's port unless it names one; `//example.com` for any
/// scheme and port; `//*.example.com` for that host and all subdomains.
#[derive(Debug)]
pub(crate) struct Pattern {
    scheme: Option<String>,
    host: String,
    below: bool,
    port: Option<u16>,
}

impl Pattern {
    /// Returns `None` if it isn't a pattern.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("//")?;
        let scheme = if scheme.is_empty() { None } else { Some(scheme.strip_suffix(':')?.to_owned()) };
        let (below, authority) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        let authority: Authority = authority.parse().ok()?;
        let (host, port) = host_and_port(&authority)?;
        let port = port.or_else(|| default_port(scheme.as_deref()?));
        Some(Self { scheme, host: host.to_owned(), below, port })
    }

    fn matches(&self, origin: PageOrigin<'_>) -> bool {
        let scheme = self.scheme.as_deref().is_none_or(|scheme| origin.scheme == Some(scheme));
        let port = self.port.is_none_or(|port| origin.port == Some(port));
        scheme && port && self.matches_host(origin.host)
    }

    fn matches_host(&self, host: &str) -> bool {
        if host.eq_ignore_ascii_case(&self.host) {
            return true;
        }
        let name = host.len().checked_sub(self.host.len() + 1).and_then(|at| host.split_at_checked(at));
        self.below
            && name.is_some_and(|(name, rest)| {
                !name.is_empty() && rest.starts_with('.') && rest[1..].eq_ignore_ascii_case(&self.host)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &Origins, headers: &[(HeaderName, &str)]) -> Result<(), Refusal> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        origins.check(&headers.collect(), &Uri::from_static("/socket"))
    }

    fn rule(rule: OriginRule) -> Origins {
        Origins { rule, hosts: Vec::new() }
    }

    fn listed(patterns: &[&str]) -> Origins {
        rule(OriginRule::Listed(patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect()))
    }

    fn accepts(origins: &Origins, origin: &str, host: &str) -> bool {
        check(origins, &[(ORIGIN, origin), (HOST, host)]).is_ok()
    }

    #[test]
    fn a_page_of_another_host_or_port_is_of_another_origin() {
        let same = |origin, host| accepts(&Origins::default(), origin, host);
        for (origin, host) in [
            ("http://localhost:4000", "localhost:4000"),
            ("http://[::1]:4000", "[::1]:4000"),
            ("https://Example.org", "example.org"),
            ("http://example.org", "example.org"),
            ("https://example.org", "example.org:443"),
            ("http://example.org", "example.org:80"),
            // A proxy may terminate TLS, so the scheme isn't compared.
            ("https://example.org:8443", "example.org:8443"),
            ("https://host.com/", "host.com"),
        ] {
            assert!(same(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://another.com/", "host.com"),
            ("https://evil.org", "example.org"),
            ("https://example.org.evil.org", "example.org"),
            ("http://localhost:3000", "localhost:4000"),
            ("http://localhost", "localhost:4000"),
            ("http://localhost:4000", "localhost"),
            ("https://example.org:8443", "example.org"),
            ("https://example.org:80", "example.org:443"),
            ("app://example.org", "example.org"),
            ("https://example.org@evil.org", "example.org"),
            ("https://evil.org@example.org", "example.org"),
            ("https://example.org", "example.org:99999"),
            ("https://example.org", "evil@example.org"),
            ("file://", "example.org"),
            ("null", "example.org"),
            ("null", "null"),
            ("", "example.org"),
            ("", ""),
        ] {
            assert!(!same(origin, host), "{origin} {host}");
        }
        assert!(check(&Origins::default(), &[(ORIGIN, "https://example.org")]).is_err(), "no host");
        assert!(check(&Origins::default(), &[(HOST, "example.org")]).is_ok(), "no page");
        assert!(check(&Origins::default(), &[]).is_ok(), "no page");
    }

    #[test]
    fn http_2_names_the_host_in_the_uri() {
        let headers = HeaderMap::from_iter([(ORIGIN, "https://example.org".parse().unwrap())]);
        let check = |uri| Origins::default().check(&headers, &Uri::from_static(uri));
        assert!(check("https://example.org/socket/longpoll").is_ok());
        assert!(check("https://evil.org/socket/longpoll").is_err());
    }

    /// The values of `check_origin/4` in Phoenix's `transport_test.exs`.
    #[test]
    fn listed_origins_are_compared_as_phoenix_does() {
        let wild = listed(&["https://*.ex.com", "http://*.ex.com"]);
        for origin in ["http://org1.ex.com", "https://org1.ex.com", "http://ex.com", "https://ex.com"] {
            assert!(accepts(&wild, origin, "elsewhere"), "{origin}");
        }
        for origin in ["http://org1.prefix-ex.com", "http://prefix-ex.com", "https://bar-ex.com"] {
            assert!(!accepts(&wild, origin, "elsewhere"), "{origin}");
        }
        let nested = listed(&["http://*.foo.example.com"]);
        assert!(accepts(&nested, "http://org1.foo.example.com", "elsewhere"));
        assert!(!accepts(&nested, "http://org1.bar.example.com", "elsewhere"));
        assert!(!accepts(&listed(&["//ex.com"]), "http://org1.ex.com", "elsewhere"));
        let origins = listed(&["//example.com", "http://scheme.com", "//port.com:81"]);
        for origin in
            ["http://example.com/", "https://example.com/", "http://scheme.com/", "http://port.com:81/"]
        {
            assert!(accepts(&origins, origin, "elsewhere"), "{origin}");
        }
        for origin in [
            "http://notallowed.com/",
            "https://scheme.com/",
            "http://scheme.com:8080/",
            "http://port.com:82/",
            "file://",
            "null",
            "",
        ] {
            assert!(!accepts(&origins, origin, "elsewhere"), "{origin}");
        }
    }

    #[test]
    fn ports_and_cases_of_listed_origins() {
        let listed = |pattern, origin| accepts(&listed(&[pattern]), origin, "elsewhere");
        assert!(listed("https://example.com:443", "https://example.com"));
        assert!(listed("http://eighty.com:80", "http://eighty.com"));
        assert!(!listed("https://plain.com", "https://plain.com:8443"));
        assert!(!listed("https://example.com:443", "https://example.com:8443"));
        assert!(listed("https://example.com", "https://EXAMPLE.com"));
        assert!(listed("//*.wild.com", "https://wild.com:8443"));
        assert!(listed("//*.example.com", "https://a.b.example.com"));
        assert!(listed("app://own", "app://own"));
        for origin in ["https://evilexample.com", "https://.example.com", "null"] {
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
        let invalid =
            |origin: &str| origin.parse::<Uri>().map_or(true, |uri| uri.host().is_none_or(str::is_empty));
        let checked = rule(OriginRule::Checked(Box::new(move |origin, headers| {
            (origin == "app://own" || origin == "http://example.com/" || invalid(origin))
                && headers.contains_key(HOST)
        })));
        for origin in ["app://own", "http://example.com/", "file://", ""] {
            assert!(accepts(&checked, origin, "example.org"), "{origin}");
        }
        assert!(!accepts(&checked, "http://notallowed.com/", "example.org"));
        let any = rule(OriginRule::Any);
        for origin in ["/", "null", "file://", "", "é"] {
            assert!(accepts(&any, origin, "example.org"), "{origin}");
        }
    }

    #[test]
    fn a_page_that_names_no_origin_is_known_by_its_address() {
        let get =
            |origins: &Origins, referer, host| check(origins, &[(REFERER, referer), (HOST, host)]).is_ok();
        assert!(get(&Origins::default(), "https://example.org/a/page?b", "example.org"));
        assert!(!get(&Origins::default(), "https://example.org/a/page?b", "127.0.0.1:4100"));
        assert!(get(&listed(&["//example.org"]), "https://example.org/", "127.0.0.1:4100"));
        assert!(!get(&listed(&["//example.com"]), "https://example.org/", "example.org"));
        assert!(get(&rule(OriginRule::Any), "https://example.org/", "127.0.0.1:4100"));
        for referer in ["", "/page", "about:client"] {
            assert!(get(&Origins::default(), referer, "example.org"), "{referer:?} names no origin");
        }
    }

    #[test]
    fn a_browser_s_word_that_the_origin_is_the_same_counts_whatever_the_host() {
        let says = |origins: &Origins, site| {
            let headers = [(SEC_FETCH_SITE, site), (ORIGIN, "https://example.org"), (HOST, "127.0.0.1:4100")];
            check(origins, &headers).is_ok()
        };
        assert!(says(&Origins::default(), "same-origin"));
        for site in ["same-site", "cross-site", "none", ""] {
            assert!(!says(&Origins::default(), site), "{site:?}");
        }
        // A list is exclusive: pages on our own host may belong to anybody.
        assert!(!says(&listed(&["//example.com"]), "same-origin"));
    }

    #[test]
    fn requests_to_other_hosts_than_ours_are_refused() {
        let hosts = ["example.org", "[::1]", "127.0.0.1:4100"].map(|host| OwnHost::parse(host).unwrap());
        let ours = Origins { rule: OriginRule::Host, hosts: hosts.into() };
        let to = |host: &str| {
            let origin = format!("http://{host}");
            // A page that is recognized only by its `Referer`.
            let referred = check(&ours, &[(HOST, host), (REFERER, &format!("{origin}/page"))]);
            assert_eq!(check(&ours, &[(HOST, host), (ORIGIN, &origin)]).is_ok(), referred.is_ok());
            referred
        };
        for host in ["example.org", "EXAMPLE.org:8443", "[::1]:4100", "127.0.0.1:4100"] {
            assert!(to(host).is_ok(), "{host}");
        }
        // The last one is a page whose name points to our address.
        for host in
            ["example.com", "127.0.0.1", "127.0.0.1:4101", "a.example.org", "", "rebound.evil.org:4100"]
        {
            assert!(matches!(to(host), Err(Refusal::Host)), "{host}");
        }
        // Programs other than browsers may use any host.
        assert!(check(&ours, &[(HOST, "x")]).is_ok() && check(&ours, &[]).is_ok());
        let rebound = [(ORIGIN, "http://rebound.evil.org:4100"), (HOST, "rebound.evil.org:4100")];
        assert!(matches!(check(&ours, &rebound), Err(Refusal::Host)));
        let same_site = [(SEC_FETCH_SITE, "same-origin"), (HOST, "rebound.evil.org:4100")];
        assert!(matches!(check(&ours, &same_site), Err(Refusal::Host)));
        assert!(matches!(
            check(&ours, &[(ORIGIN, "http://evil.org"), (HOST, "example.org")]),
            Err(Refusal::Origin)
        ));
        for host in ["", "http://example.org", "*.example.org", "a@b", "example.org:x", "example.org/"] {
            assert!(OwnHost::parse(host).is_none(), "{host}");
        }
    }

    #[test]
    fn texts_in_the_log_are_cut() {
        assert_eq!(shown(None), "none");
        assert_eq!(shown(Some(b"https://a\n\xff")), "https://a\\n\\xff");
        assert!(shown(Some(&vec![b'x'; 200_000])).len() < 2 * MAX_SHOWN_BYTES);
    }
}
