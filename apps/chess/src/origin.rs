use std::{fmt, str::FromStr};

use axum::http::Uri;

/// The site's address for browsers, such as `https://chess.example`: what the address bar shows before the first `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// The text is no origin that the site can have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// It isn't a scheme, a host and perhaps a port.
    #[error("it has to be a scheme and a host, such as https://chess.example or http://localhost:4000")]
    Malformed,
    /// It names a path.
    #[error("the site works at the root of a host only, not below a path: leave out what follows the host")]
    Path,
}

impl Origin {
    /// Whether browsers reach the site over TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let uri: Uri = text.parse().map_err(|_| OriginError::Malformed)?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(OriginError::Malformed);
        };
        let has_user = authority.as_str().contains('@');
        let has_bad_port = authority.as_str() != authority.host() && authority.port_u16().is_none();
        if authority.host().is_empty() || authority.host().contains('*') || has_user || has_bad_port {
            return Err(OriginError::Malformed);
        }
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return Err(OriginError::Path);
        }
        // As browsers write it: in lower case, and without the port that the scheme stands for.
        let host = authority.host().to_ascii_lowercase();
        Ok(Self(match (scheme, authority.port_u16()) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
            (_, Some(port)) => format!("{scheme}://{host}:{port}"),
        }))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, origin) in [
            ("https://chess.example", "https://chess.example"),
            ("https://Chess.Example/", "https://chess.example"),
            ("https://chess.example:443", "https://chess.example"),
            ("http://chess.example:80", "http://chess.example"),
            ("http://localhost:4000", "http://localhost:4000"),
            ("http://[::1]:4000", "http://[::1]:4000"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), origin);
        }
        assert!("https://chess.example".parse::<Origin>().unwrap().is_https());
        assert!(!"http://chess.example".parse::<Origin>().unwrap().is_https());
    }

    #[test]
    fn a_text_that_is_no_origin_says_what_to_write() {
        for text in [
            "",
            "chess.example",
            "/",
            "ftp://chess.example",
            "https://",
            "https://*.example",
            "https://a@b.example",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError::Malformed), "{text}");
        }
        for text in ["https://example.com/chess", "https://example.com/?a=b"] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError::Path), "{text}");
        }
    }
}
