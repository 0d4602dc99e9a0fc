use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As much of the body as was read; in the log of large ones only the beginning.
    pub body: Vec<u8>,
    /// Bytes of the body that were read.
    pub received: u64,
    /// Status of the answer; 0 where there was none, or where it is not logged.
    pub status: u16,
}

/// Most bytes of a body that are kept in a log.
const MAX_LOGGED: usize = 1 << 20;

impl LoggedRequest {
    /// The same without the end of a large body, and with what was answered.
    pub(crate) fn for_log(&self, status: u16) -> Self {
        let body = self.body[..self.body.len().min(MAX_LOGGED)].to_vec();
        let (method, path, headers) = (self.method.clone(), self.path.clone(), self.headers.clone());
        Self { method, path, headers, body, received: self.received, status }
    }
}

/// What stands before the body: `None` at the end of the connection, an error for what is no HTTP.
pub(crate) fn read_head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Result<LoggedRequest, ()>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let count = reader.by_ref().take(64 << 10).read_until(b'\n', &mut line)?;
        match String::from_utf8(line) {
            Ok(_) if count == 0 => return Ok(None),
            Ok(text) if text.trim().is_empty() && !lines.is_empty() => break,
            Ok(text) => lines.push(text.trim().to_owned()),
            Err(_) => return Ok(Some(Err(()))),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(Some(Err(()))) };
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Some(Ok(LoggedRequest { method, path, headers, body: Vec::new(), received: 0, status: 0 })))
}

/// The body of a request, or the first `most` bytes of it; an error when it breaks off before.
pub(crate) fn read_body(
    reader: &mut BufReader<&TcpStream>,
    request: &LoggedRequest,
    most: usize,
) -> io::Result<Vec<u8>> {
    if most > 0 && request.headers.get("expect").is_some_and(|value| value == "100-continue") {
        (&**reader.get_ref()).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    let wanted = length.min(most);
    reader.by_ref().take(wanted as u64).read_to_end(&mut body)?;
    if body.len() < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(body) }
}
