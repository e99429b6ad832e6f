//! How a client violates the WebSocket protocol.

/// A violation of the WebSocket protocol. Close the connection with [`close_code`](Self::close_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("a frame has reserved bits set that no agreed extension uses there")]
    ReservedBits,
    #[error("a frame has the reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    #[error("a frame of a client is not masked")]
    Unmasked,
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("the payload of a control frame is longer than 125 bytes")]
    LongControl,
    #[error("a continuation frame follows no message")]
    NothingToContinue,
    #[error("a message starts before the one before it has ended")]
    Unfinished,
    #[error("a payload length is written in more bytes than it needs")]
    LengthNotMinimal,
    #[error("a payload length has its top bit set")]
    LengthTopBit,
    #[error("a close frame has half a close code")]
    HalfCloseCode,
    #[error("a client must not close with the code {0}")]
    CloseCode(u16),
    #[error("a text is not valid UTF-8")]
    Utf8,
    #[error("a message is not a whole stream of compressed data")]
    Inflate,
    #[error("a message is larger than {max} bytes")]
    TooBig { max: usize },
}

impl ProtocolError {
    /// The code to close the connection with.
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::Utf8 | Self::Inflate => 1007,
            Self::TooBig { .. } => 1009,
            _ => 1002,
        }
    }
}
