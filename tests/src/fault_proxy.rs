//! An HTTP/1.1 server that stands before a registry, or alone, and does what a test tells it: pass on, answer itself,
//! break off, stall, or spoil what comes. One request for each connection; bodies are held in memory.
//!
//! What it does is a function of the request, or a list of [`Rules`].

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the `?`; empty if there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Empty until it was read.
    pub body: Vec<u8>,
}

impl Request {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it is this method on a path that ends so.
    pub fn is(&self, method: &str, path_end: &str) -> bool {
        self.method == method && self.path.ends_with(path_end)
    }

    /// All values of a query or form field, decoded.
    pub fn fields(text: &str, name: &str) -> Vec<String> {
        text.split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| decode(value))
            .collect()
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is passed on.
    None,
    /// It is answered here: status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The connection is reset without an answer.
    Reset,
    /// The request reaches the registry cut after this many bytes of its body, and both connections are reset.
    CutRequest(usize),
    /// The request reaches the registry, and its answer is lost.
    LoseAnswer,
    /// The connection ends after this many bytes of the answer's body.
    CutAnswer(usize),
    /// Nothing more comes after this many bytes of the answer's body.
    StallAnswer(usize),
    /// The answer's body comes byte by byte, with this pause before each, until somebody has had enough.
    DripAnswer(Duration),
    /// Nothing is read of the request's body, and no answer comes.
    StallRequest,
    /// The byte at this place of the answer's body is changed.
    Spoil(usize),
    /// The answer has no length, and these bytes after its body.
    Append(Vec<u8>),
    /// The answer lacks a header.
    WithoutHeader(&'static str),
}

impl Fault {
    /// An answer with a status and text.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Answer(status, Vec::new(), body.as_bytes().to_vec())
    }

    /// An answer with a header.
    pub fn with_header(status: u16, name: &str, value: &str, body: &str) -> Self {
        Self::Answer(status, vec![(name.to_owned(), value.to_owned())], body.as_bytes().to_vec())
    }
}

/// When a rule applies, among the requests that fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// The first so many times.
    First(usize),
    /// Once, counted from 0.
    Nth(usize),
}

/// Faults by method, path, and how often a request came.
#[derive(Debug, Default)]
pub struct Rules(Vec<(Rule, Mutex<usize>)>);

#[derive(Debug)]
struct Rule {
    method: &'static str,
    path: String,
    when: When,
    fault: Fault,
}

impl Rules {
    /// Everything is passed on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests with this method (empty for any) and a path of this form, in which `*` stands for anything. The first
    /// rule that applies decides; each counts the requests that fit it, whether or not it applies to them.
    #[must_use]
    pub fn on(mut self, method: &'static str, path: &str, when: When, fault: Fault) -> Self {
        self.0.push((Rule { method, path: path.to_owned(), when, fault }, Mutex::new(0)));
        self
    }

    /// What is done to a request.
    pub fn decide(&self, request: &Request) -> Fault {
        let mut decided = None;
        for (rule, seen) in &self.0 {
            if (rule.method.is_empty() || rule.method == request.method) && fits(&rule.path, &request.path) {
                let mut seen = seen.lock().unwrap();
                let applies = match rule.when {
                    When::Always => true,
                    When::First(times) => *seen < times,
                    When::Nth(number) => *seen == number,
                };
                *seen += 1;
                if applies && decided.is_none() {
                    decided = Some(rule.fault.clone());
                }
            }
        }
        decided.unwrap_or(Fault::None)
    }
}

/// Whether a text has a form in which `*` stands for anything.
fn fits(form: &str, text: &str) -> bool {
    match form.split_once('*') {
        None => form == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(after, &rest[at..]))),
    }
}

/// What a test decides by: the request, and how many requests came before it.
type Decide = dyn Fn(&Request, usize) -> Fault + Send + Sync;

/// The server; it ends when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl FaultProxy {
    /// Listens on a free port of this machine. `backend` is the port of the registry behind it, if there is one.
    pub fn start(backend: Option<u16>, decide: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            backend,
            decide: Box::new(decide),
            requests: Arc::clone(&requests),
            stopped: Arc::clone(&stopped),
        };
        let shared = Arc::new(shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // Errors are the client's: it went away.
                thread::spawn(move || stream.and_then(|stream| shared.serve(stream)));
            }
        });
        Self { address, requests, stopped }
    }

    /// One with rules.
    pub fn with_rules(backend: Option<u16>, rules: Rules) -> Self {
        Self::start(backend, move |request, _| rules.decide(request))
    }

    /// Host and port, as in a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests with this method had a path that ends so.
    pub fn count(&self, method: &str, path_end: &str) -> usize {
        self.requests().iter().filter(|request| request.is(method, path_end)).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

struct Shared {
    backend: Option<u16>,
    decide: Box<Decide>,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        // A TLS handshake begins with this byte; there is no TLS here.
        if reader.fill_buf()?.first() == Some(&0x16) {
            return stream.shutdown(Shutdown::Both);
        }
        let mut request = read_head(&mut reader)?;
        // A place in the order, before the body: a stall never reads one.
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let fault = (self.decide)(&request, number);
        if matches!(fault, Fault::StallRequest) {
            return self.stall();
        }
        let limit = if let Fault::CutRequest(limit) = fault { limit } else { usize::MAX };
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0usize);
        request.body = vec![0; length.min(limit)];
        reader.read_exact(&mut request.body)?;
        self.requests.lock().unwrap()[number] = request.clone();
        match fault {
            Fault::Answer(status, headers, body) => answer(&mut stream, status, &headers, &body, &request),
            Fault::Reset => reset(&stream),
            Fault::CutRequest(_) => {
                let mut backend = self.connect()?;
                write_request(&mut backend, &request, length)?;
                // The registry is to store what came before it sees the end.
                thread::sleep(Duration::from_millis(100));
                drop(backend);
                reset(&stream)
            }
            fault => self.pass_on(&mut stream, &request, fault),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.backend.expect("a registry behind the proxy")))
    }

    fn pass_on(&self, stream: &mut TcpStream, request: &Request, fault: Fault) -> io::Result<()> {
        let mut backend = self.connect()?;
        write_request(&mut backend, request, request.body.len())?;
        let mut whole = Vec::new();
        backend.read_to_end(&mut whole)?;
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)? + 4;
        let mut body = whole.split_off(end);
        let mut head = String::from_utf8(whole).map_err(|_| io::ErrorKind::InvalidData)?;
        let without = |head: &str, name: &str| -> String {
            let lines = head.split_inclusive("\r\n");
            lines.filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{name}:"))).collect()
        };
        match fault {
            Fault::LoseAnswer => return reset(stream),
            Fault::Spoil(at) if at < body.len() => body[at] ^= 1,
            Fault::Append(more) => {
                head = without(&head, "content-length");
                body.extend(more);
            }
            Fault::WithoutHeader(name) => head = without(&head, name),
            Fault::CutAnswer(after) => body.truncate(after),
            Fault::StallAnswer(after) => {
                body.truncate(after);
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body)?;
                return self.stall();
            }
            Fault::DripAnswer(pause) => {
                stream.write_all(head.as_bytes())?;
                for byte in body.chunks(1).take_while(|_| !self.stopped.load(Ordering::Relaxed)) {
                    thread::sleep(pause);
                    stream.write_all(byte)?;
                }
                return stream.shutdown(Shutdown::Write);
            }
            _ => {}
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        stream.shutdown(Shutdown::Write)
    }

    fn stall(&self) -> io::Result<()> {
        while !self.stopped.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The lines of the head of a request or an answer.
pub(crate) fn head_lines(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Request> {
    let lines = head_lines(reader)?;
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
        body: Vec::new(),
    })
}

fn write_request(backend: &mut TcpStream, request: &Request, length: usize) -> io::Result<()> {
    let mut head = format!("{} {}", request.method, request.path);
    if !request.query.is_empty() {
        head.push_str(&format!("?{}", request.query));
    }
    head.push_str(" HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "connection" | "content-length") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    backend.write_all(head.as_bytes())?;
    backend.write_all(&request.body)
}

fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    request: &Request,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(body)?;
    }
    stream.shutdown(Shutdown::Write)
}

/// Dropping a socket with unread bytes resets it; what is unread here is at least the client's end.
fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Both)
}
