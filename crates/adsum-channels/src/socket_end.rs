//! How a socket ends, and the codes with which the server closes it.

/// The close code of a socket that is told to `disconnect`. Its client reconnects.
pub(crate) const DISCONNECT_CODE: u16 = 1001;
/// The close code for a silent client, as in Bandit.
pub(crate) const IDLE_CODE: u16 = 1002;
/// The close code when the server shuts down: the client should reconnect to another one.
pub(crate) const RESTART_CODE: u16 = 1012;
/// The close code for a slow client: phoenix.js reconnects after it, but not after 1000.
pub(crate) const OVERFLOW_CODE: u16 = 1013;

/// How a socket has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketEnd {
    /// The client has closed it, with this WebSocket close code.
    Closed(u16),
    /// The connection is lost, or a long poll client has stopped polling.
    Lost,
    /// The client was silent for longer than the [`timeout`](crate::SocketBuilder::timeout), didn't answer a
    /// [`ping`](crate::SocketBuilder::ping), or took too long to complete a message.
    Silent,
    /// The client read too slowly, and its outbound queue overflowed. Or, by long poll, a message is too long for the
    /// queue to the node that the client polls.
    TooSlow,
    /// The client sent a malformed message. The socket was closed with this code.
    BadMessage(u16),
    /// It was told to [`disconnect`](adsum_pubsub::PubSub::disconnect).
    Disconnected,
    /// The server was drained, or has stopped.
    Draining,
}

impl SocketEnd {
    /// How a socket has ended that the server has closed with this code.
    pub(crate) fn by_server(code: u16) -> Self {
        match code {
            IDLE_CODE => Self::Silent,
            OVERFLOW_CODE => Self::TooSlow,
            DISCONNECT_CODE => Self::Disconnected,
            RESTART_CODE => Self::Draining,
            code => Self::BadMessage(code),
        }
    }

    /// The end as a number, which is never 0.
    pub(crate) fn to_bits(self) -> u32 {
        let (kind, code) = match self {
            Self::Closed(code) => (1, code),
            Self::Lost => (2, 0),
            Self::Silent => (3, 0),
            Self::TooSlow => (4, 0),
            Self::BadMessage(code) => (5, code),
            Self::Disconnected => (6, 0),
            Self::Draining => (7, 0),
        };
        kind << 16 | u32::from(code)
    }

    /// The end of which [`to_bits`](Self::to_bits) made a number.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        let code = (bits & 0xffff) as u16;
        Some(match bits >> 16 {
            1 => Self::Closed(code),
            2 => Self::Lost,
            3 => Self::Silent,
            4 => Self::TooSlow,
            5 => Self::BadMessage(code),
            6 => Self::Disconnected,
            7 => Self::Draining,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_was_kept() {
        let ends = [
            SocketEnd::Closed(1001),
            SocketEnd::Lost,
            SocketEnd::Silent,
            SocketEnd::TooSlow,
            SocketEnd::BadMessage(1011),
            SocketEnd::Disconnected,
            SocketEnd::Draining,
        ];
        for end in ends {
            assert_eq!(SocketEnd::from_bits(end.to_bits()), Some(end));
        }
        assert_eq!(SocketEnd::from_bits(0), None);
    }
}
