//! As much of Kafka's wire protocol as the proxy must understand: where a message ends, who asks for what, and the few
//! fields of the transactional requests that faults are aimed by. Everything else passes as bytes.
//!
//! Refuses nothing but an absurd length: what cannot be read is passed on unread.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// `ApiKey`s that the proxy looks at.
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub const END_TXN: i16 = 26;
pub const INIT_PRODUCER_ID: i16 = 22;

/// Brokers refuse more than 100 MB (`socket.request.max.bytes`).
const LARGEST: usize = 128 << 20;

/// The next message with its length before it; `None` where the stream ends.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0u8; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let size = u32::from_be_bytes(length) as usize;
    if size > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {size} bytes")));
    }
    let mut frame = vec![0u8; 4 + size];
    frame[..4].copy_from_slice(&length);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(Some(frame))
}

/// A request's header, and what follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    pub api: i16,
    pub version: i16,
    pub correlation: i32,
    pub client_id: &'a str,
    /// In the versions from which a request is "flexible", tagged fields come first here.
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a frame as [`read`] returns it.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mut at = Cursor(frame.get(4..)?);
        let (api, version, correlation) = (at.i16()?, at.i16()?, at.i32()?);
        let client_id = at.string()?.unwrap_or_default();
        Some(Request { api, version, correlation, client_id, body: at.0 })
    }

    /// What an EndTxn ends, and how. `None` for anything else, and for the flexible versions that librdkafka does not speak.
    pub fn end_txn(&self) -> Option<EndTxn<'a>> {
        if self.api != END_TXN || self.version > 2 {
            return None;
        }
        let mut at = Cursor(self.body);
        let transactional_id = at.string()??;
        let (producer_id, epoch) = (at.i64()?, at.i16()?);
        let commit = *at.0.first()? != 0;
        Some(EndTxn { transactional_id, producer_id, epoch, commit })
    }
}

/// The body of an EndTxn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndTxn<'a> {
    pub transactional_id: &'a str,
    pub producer_id: i64,
    pub epoch: i16,
    pub commit: bool,
}

/// Which request a response answers.
pub fn correlation(response: &[u8]) -> Option<i32> {
    Cursor(response.get(4..)?).i32()
}

/// The error code in the answer to an EndTxn.
pub fn end_txn_error(response: &[u8]) -> Option<i16> {
    let mut at = Cursor(response.get(8..)?);
    let _throttled_ms = at.i32()?;
    at.i16()
}

/// The error code of the first partition in the answer to an AddPartitionsToTxn: all of them have the same, but for the
/// partitions that do not exist.
pub fn add_partitions_error(response: &[u8]) -> Option<i16> {
    let mut at = Cursor(response.get(8..)?);
    let (_throttled_ms, _topics) = (at.i32()?, at.i32()?);
    at.string()?;
    let (_partitions, _partition) = (at.i32()?, at.i32()?);
    at.i16()
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// The inner `None` is null.
    fn string(&mut self) -> Option<Option<&'a str>> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Some(None) };
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(text).ok()?))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn text(into: &mut Vec<u8>, text: &str) {
        into.extend_from_slice(&(text.len() as i16).to_be_bytes());
        into.extend_from_slice(text.as_bytes());
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    pub(in crate::proxy) fn request(api: i16, correlation: i32, client_id: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = [api.to_be_bytes(), 1i16.to_be_bytes()].concat();
        bytes.extend_from_slice(&correlation.to_be_bytes());
        text(&mut bytes, client_id);
        bytes.extend_from_slice(body);
        framed(&bytes)
    }

    pub(in crate::proxy) fn end_txn(correlation: i32, id: &str, commit: bool) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, id);
        body.extend_from_slice(&77i64.to_be_bytes());
        body.extend_from_slice(&3i16.to_be_bytes());
        body.push(u8::from(commit));
        request(END_TXN, correlation, &format!("pelton-{id}"), &body)
    }

    pub(in crate::proxy) fn end_txn_answer(correlation: i32, error: i16) -> Vec<u8> {
        let mut body = correlation.to_be_bytes().to_vec();
        body.extend_from_slice(&0i32.to_be_bytes());
        body.extend_from_slice(&error.to_be_bytes());
        framed(&body)
    }

    pub(in crate::proxy) fn add_partitions_answer(correlation: i32, error: i16) -> Vec<u8> {
        let mut body = correlation.to_be_bytes().to_vec();
        [0i32, 1].iter().for_each(|n| body.extend_from_slice(&n.to_be_bytes()));
        text(&mut body, "left");
        [1i32, 5].iter().for_each(|n| body.extend_from_slice(&n.to_be_bytes()));
        body.extend_from_slice(&error.to_be_bytes());
        framed(&body)
    }

    #[test]
    fn an_end_txn_says_whose_transaction_it_ends_and_how() {
        let frame = end_txn(9, "torture/p0/1/0", true);
        let request = Request::parse(&frame).unwrap();
        assert_eq!((request.api, request.correlation, request.client_id), (26, 9, "pelton-torture/p0/1/0"));
        let end = request.end_txn().unwrap();
        let expected = EndTxn { transactional_id: "torture/p0/1/0", producer_id: 77, epoch: 3, commit: true };
        assert_eq!(end, expected);
    }

    #[test]
    fn a_null_client_id_is_no_name_and_a_cut_off_header_is_none() {
        let mut bytes = [18i16.to_be_bytes(), 3i16.to_be_bytes()].concat();
        bytes.extend_from_slice(&1i32.to_be_bytes());
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        assert_eq!(Request::parse(&framed(&bytes)).unwrap().client_id, "");
        assert_eq!(Request::parse(&framed(&bytes[..7])), None);
        assert_eq!(Request::parse(&[0, 0]), None);
    }

    #[test]
    fn answers_carry_their_errors() {
        let answer = end_txn_answer(4, 47);
        assert_eq!((correlation(&answer), end_txn_error(&answer)), (Some(4), Some(47)));
        assert_eq!(add_partitions_error(&add_partitions_answer(4, 51)), Some(51));
        assert_eq!(end_txn_error(&answer[..9]), None);
    }

    #[tokio::test]
    async fn messages_are_told_apart_however_the_bytes_arrive() {
        let (a, b) = (request(3, 1, "a", b"xyz"), request(0, 2, "b", &[]));
        let stream = [a.clone(), b.clone()].concat();
        let mut pieces = tokio_pieces(stream);
        assert_eq!(read(&mut pieces).await.unwrap(), Some(a));
        assert_eq!(read(&mut pieces).await.unwrap(), Some(b));
        assert_eq!(read(&mut pieces).await.unwrap(), None);
        let mut absurd = &[0xff; 8][..];
        assert!(read(&mut absurd).await.is_err());
    }

    /// A stream that gives one byte at a time.
    fn tokio_pieces(bytes: Vec<u8>) -> impl AsyncRead + Unpin {
        struct Pieces(Vec<u8>, usize);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                let at = self.1;
                if let Some(byte) = self.0.get(at) {
                    buffer.put_slice(&[*byte]);
                    self.1 += 1;
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        Pieces(bytes, 0)
    }
}
