//! The lines of a response: the events of a watch.

use std::fmt::Display;

use axum::body::{Bytes, HttpBody};
use axum::http::Response;
use http_body_util::BodyExt;
use kube::Error;

use crate::request::Failure;

/// The maximum length of a line, in octets. An object has at most 1.5 MiB in etcd; its JSON text is longer,
/// because control characters are escaped.
const MAX_LINE: usize = 32 * 1024 * 1024;

/// Reads a response line by line.
pub(super) struct Lines<B> {
    body: B,
    buffer: Vec<u8>,
    /// The start of the next line in `buffer`.
    start: usize,
    /// The end of the part of `buffer` that was searched for the end of that line.
    searched: usize,
}

impl<B: HttpBody<Data = Bytes, Error: Display> + Unpin> Lines<B> {
    pub(super) fn new(response: Response<B>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// Returns the next line that is not empty; `None` at the end of the response. A connection that fails
    /// ends the response. Cancel safe.
    ///
    /// # Errors
    /// Returns an error if a line is longer than 32 MiB.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            while let Some(at) = self.buffer[self.searched..].iter().position(|octet| *octet == b'\n') {
                let end = self.searched + at;
                let line = &self.buffer[self.start..end];
                (self.start, self.searched) = (end + 1, end + 1);
                if !line.iter().all(u8::is_ascii_whitespace) {
                    return Ok(Some(line.to_vec()));
                }
            }
            self.buffer.drain(..self.start);
            (self.start, self.searched) = (0, self.buffer.len());
            if self.buffer.len() > MAX_LINE {
                let error = format!("an event of the watch is longer than {MAX_LINE} octets");
                return Err(Error::Service(error.into()).into());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the connection of a watch failed");
                    return Ok(None);
                }
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    async fn lines(pieces: &[&str]) -> Vec<String> {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece.to_string()))).collect();
        let body = axum::body::Body::from_stream(stream::iter(pieces));
        let mut lines = Lines::new(Response::new(body));
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push(String::from_utf8(line).unwrap());
        }
        read
    }

    #[tokio::test]
    async fn lines_are_independent_of_the_pieces_they_arrive_in() {
        assert_eq!(lines(&["a\nb", "c\n\n", "\r\nd", "", "\n"]).await, ["a", "bc", "d"]);
        assert_eq!(lines(&["complete\nincomp", "lete"]).await, ["complete"]);
        assert_eq!(lines(&[]).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn endless_line_is_an_error() {
        let piece = Bytes::from(vec![b'x'; 1024 * 1024]);
        let endless = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
        let body = axum::body::Body::from_stream(endless);
        let mut lines = Lines::new(Response::new(body));
        assert!(lines.next().await.is_err());
    }
}
