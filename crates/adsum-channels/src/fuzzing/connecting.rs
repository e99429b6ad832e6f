//! The request of a client that connects: the upgrade, the version, the origin, the token. No request that lacks
//! what an upgrade needs is accepted, and no origin of another host.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use crate::{
    admission,
    connect::Connect,
    longpoll,
    origin::{OriginRule, Origins, Pattern},
    rfc6455::handshake,
};

/// Input: an address, a pattern of origins, then headers, a line each.
pub fn connecting(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let pattern = std::str::from_utf8(lines.next().unwrap_or_default()).ok();
    let mut request = Request::get(uri).body(()).expect("all of it is valid").into_parts().0;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::try_from(&line[..colon]), HeaderValue::try_from(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers.append(name, value);
        }
    }

    let headers = &request.headers;
    if let Ok(answer) = handshake::accept(&request) {
        assert_eq!(answer.len(), 28, "20 bytes in base64");
        assert!(has(headers, header::UPGRADE, "websocket"));
        assert!(has(headers, header::CONNECTION, "upgrade"));
        assert!(has(headers, header::SEC_WEBSOCKET_VERSION, "13"));
    }
    let version = admission::version(&request.uri);
    assert!(version.as_ref().ok().is_none_or(|vsn| vsn.len() <= request.uri.to_string().len().max(5)));
    origins(headers, &request.uri, pattern);
    let in_header = headers.get("x-phoenix-longpoll-token").and_then(|token| token.to_str().ok());
    // An address whose query can't be read names no version either.
    if let Some(token) = in_header.filter(|_| version.is_ok()) {
        assert_eq!(longpoll::token(headers, &request.uri).ok().flatten().as_deref(), Some(token));
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::len).sum::<usize>();
    let token = headers.get("x-phoenix-authtoken").map_or(0, HeaderValue::len);
    let request = Connect::new(request, None);
    assert!(request.auth_token().is_none_or(|read| read.len() <= offered.max(token)));
}

fn origins(headers: &HeaderMap, uri: &Uri, pattern: Option<&str>) {
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("no text"));
    let host = origin
        .and_then(|origin| origin.parse::<Uri>().ok())
        .and_then(|origin| origin.host().map(str::to_lowercase));
    let accepts = |rule| Origins { rule, hosts: Vec::new() }.check(headers, uri).is_ok();
    let of_host = accepts(OriginRule::Host);
    let listed = pattern.and_then(Pattern::parse).map(|pattern| accepts(OriginRule::Listed(vec![pattern])));
    let Some(_) = origin else {
        let names_page = headers.contains_key(header::REFERER);
        assert!(names_page || (of_host && listed.is_none_or(|accepted| accepted)), "no page, no origin");
        return;
    };
    if of_host && !headers.contains_key("sec-fetch-site") {
        let own = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or(uri.authority().map(http::uri::Authority::as_str));
        let own = own.expect("a host to compare with").parse::<Uri>().expect("one that can be read");
        assert_eq!(own.host().map(str::to_lowercase), host);
    }
    if listed == Some(true) {
        let host = host.expect("an origin with a host");
        let pattern = pattern.expect("there is one").to_lowercase();
        let listed = pattern.split_once("//").expect("a pattern has them").1;
        let below = listed.strip_prefix("*.");
        let named = below.unwrap_or(listed);
        let named = named
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(named, |(named, _)| named);
        match below {
            Some(_) => assert!(host == named || host.ends_with(&format!(".{named}"))),
            None => assert_eq!(host, named),
        }
    }
}

fn has(headers: &HeaderMap, name: HeaderName, item: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|line| line.to_str().is_ok_and(|line| line.to_lowercase().contains(item)))
}
