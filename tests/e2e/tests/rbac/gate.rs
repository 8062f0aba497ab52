//! A proxy in front of the API server that passes only requests that rules grant.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use fairlead_lab::netns::Netns;

use crate::access::{Access, Rules};

/// A gate. It runs until the process ends.
pub(crate) struct Gate {
    rules: Rules,
    journal: Arc<Mutex<Journal>>,
}

#[derive(Default)]
struct Journal {
    seen: BTreeSet<Access>,
    refused: Vec<String>,
}

/// A request to forward.
struct Request {
    line: String,
    access: Option<Access>,
    bytes: Vec<u8>,
}

impl Gate {
    /// Opens a gate at `here` to the server at `server`, both inside `netns`.
    pub(crate) fn open(netns: &Netns, here: SocketAddr, server: SocketAddr, rules: Rules) -> Result<Self> {
        let listener = netns.run(|| TcpListener::bind(here))??;
        let journal = Arc::new(Mutex::new(Journal::default()));
        let gate = Self { rules: rules.clone(), journal: journal.clone() };
        let inside = netns.clone();
        std::thread::spawn(move || {
            inside.enter()?;
            for client in listener.incoming() {
                let (client, rules, journal) = (client?, rules.clone(), journal.clone());
                // A thread inherits the namespace of the thread that starts it.
                std::thread::spawn(move || {
                    if let Err(error) = pass(client, server, &rules, &journal) {
                        eprintln!("gate: {error:#}");
                    }
                });
            }
            std::io::Result::Ok(())
        });
        Ok(gate)
    }

    /// Returns the accesses that were requested and not granted.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// Returns the rights that were granted and not used.
    pub(crate) fn unused(&self) -> Vec<String> {
        self.rules.unused(&self.journal.lock().unwrap_or_else(PoisonError::into_inner).seen)
    }
}

/// Forwards the requests of one connection in order.
fn pass(client: TcpStream, server: SocketAddr, rules: &Rules, journal: &Mutex<Journal>) -> Result<()> {
    let Ok(mut upstream) = TcpStream::connect(server) else {
        // Responses are unchanged.
        return Ok(());
    };
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (mut answers, mut to_client) = (upstream.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut refusals = client.try_clone()?;
    let mut requests = BufReader::new(client);
    while let Some(request) = read(&mut requests)? {
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = request.access.as_ref().is_none_or(|access| rules.grant(access));
        if granted {
            journal.seen.extend(request.access);
        } else {
            journal.refused.extend(request.access.map(|access| access.to_string()));
        }
        drop(journal);
        if granted {
            upstream.write_all(&request.bytes)?;
        } else {
            // A client sends one request at a time, so this is the response to it.
            refusals.write_all(forbidden(&request.line).as_bytes())?;
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    Ok(())
}

/// Reads a request with its body; `None` at the end of the connection.
fn read(from: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut line = String::new();
    let (mut length, mut content_type) = (0, String::new());
    loop {
        let mut header = Vec::new();
        match from.read_until(b'\n', &mut header) {
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) => bail!("a request that ends within its header"),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        bytes.extend_from_slice(&header);
        let text = String::from_utf8_lossy(&header).trim().to_owned();
        if line.is_empty() {
            line = text;
            continue;
        }
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').with_context(|| format!("header {text}"))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "content-type" => content_type = value.trim().to_owned(),
            "transfer-encoding" => bail!("{line}: the gate reads only bodies of a known length"),
            _ => {}
        }
    }
    let head = bytes.len();
    bytes.resize(head + length, 0);
    from.read_exact(&mut bytes[head..])?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let access = Access::of(method, target, &content_type);
    Ok(Some(Request { line, access, bytes }))
}

fn forbidden(line: &str) -> String {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": format!("{line} is not granted"), "metadata": {},
    })
    .to_string();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
