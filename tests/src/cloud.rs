//! Other people's servers: a proxy that stands for whatever hosts a test names, over TLS with certificates of its own authority.
//!
//! The program reaches it as any proxy (`HTTPS_PROXY`), and believes the authority by `SSL_CERT_FILE`. Behind a host is either
//! a server of this machine, to which bytes are passed on as they are, or a function that answers requests; all of the latter
//! are kept.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::{Program, fault_proxy::head_lines, run, tool};

/// A certificate for some hosts, and the authority that signed it.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Makes them with openssl; `None` (reported as a skip) where that is missing.
    pub fn for_hosts(hosts: &[&str]) -> Option<Self> {
        let openssl = tool("openssl")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let make = |arguments: &[&str]| {
            let mut command = Command::new(&openssl);
            command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]).args(arguments);
            run(command.current_dir(&directory)).success();
        };
        make(&["-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem"]);
        let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        let names = format!("subjectAltName={}", names.join(","));
        make(&[
            "-subj",
            "/CN=servers",
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ]);
        Some(Self { directory })
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// The servers' certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// Its private key.
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A request to a host that a function answers.
#[derive(Debug, Clone)]
pub struct CloudRequest {
    /// The host of the connection.
    pub host: String,
    /// The method.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// A function's answer.
pub struct CloudAnswer {
    /// The status.
    pub status: u16,
    /// Lines of the head, without their ends.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

impl CloudAnswer {
    /// Without headers.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

type Answers = Box<dyn Fn(&CloudRequest) -> CloudAnswer + Send + Sync>;

/// The proxy; it ends with the test's process.
pub struct Cloud {
    port: u16,
    certificates: Certificates,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<rustls::ServerConfig>,
    /// `HOST:PORT` of this machine for hosts that have a server of their own.
    servers: Mutex<BTreeMap<String, String>>,
    answers: Answers,
    asked: Mutex<Vec<CloudRequest>>,
    /// Hosts that were asked for and are not here.
    unknown: Mutex<Vec<String>>,
    hosts: Vec<String>,
}

impl Cloud {
    /// Starts it; `None` (reported as a skip) where there is no openssl.
    pub fn start(
        hosts: &[&str],
        answers: impl Fn(&CloudRequest) -> CloudAnswer + Send + Sync + 'static,
    ) -> Option<Self> {
        let certificates = Certificates::for_hosts(hosts)?;
        let shared = Arc::new(Shared {
            tls: Arc::new(tls(&certificates)),
            servers: Mutex::default(),
            answers: Box::new(answers),
            asked: Mutex::default(),
            unknown: Mutex::default(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                thread::spawn(move || drop(all.serve(stream)));
            }
        });
        Some(Self { port, certificates, shared })
    }

    /// What hosts are shown.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Puts a server of this machine, `HOST:PORT`, behind one of the hosts.
    pub fn behind(&self, host: &str, server: String) {
        lock(&self.shared.servers).insert(host.to_owned(), server);
    }

    /// Lets a program reach the hosts and nothing else.
    pub fn seen_by(&self, program: Program) -> Program {
        let authority: &Path = &self.certificates.authority();
        let proxy = format!("http://127.0.0.1:{}", self.port);
        program.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy).env("SSL_CERT_FILE", authority)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<CloudRequest> {
        lock(&self.shared.asked).clone()
    }

    /// Hosts that somebody wanted to reach and that are not here.
    pub fn unknown(&self) -> Vec<String> {
        lock(&self.shared.unknown).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls(certificates: &Certificates) -> rustls::ServerConfig {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain = CertificateDer::pem_file_iter(certificates.certificate()).expect("PEM").flatten().collect();
    let key = PrivateKeyDer::from_pem_file(certificates.key()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair")
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let head = head_lines(&mut BufReader::new(Bytewise(&mut client)))?;
        let target =
            head.first().and_then(|line| line.strip_prefix("CONNECT ")).and_then(|rest| rest.split(' ').next());
        let host = target.and_then(|target| target.strip_suffix(":443")).unwrap_or_default().to_owned();
        if !self.hosts.contains(&host) {
            lock(&self.unknown).push(head.first().cloned().unwrap_or_default());
            return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
        }
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let server = lock(&self.servers).get(&host).cloned();
        match server {
            Some(server) => pass_on(client, TcpStream::connect(server)?),
            None => self.answer(client, &host),
        }
    }

    /// Answers requests over TLS until the connection ends.
    fn answer(&self, client: TcpStream, host: &str) -> io::Result<()> {
        let connection = rustls::ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        let mut stream = BufReader::new(rustls::StreamOwned::new(connection, client));
        loop {
            let lines = head_lines(&mut stream)?;
            let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ');
            let (method, path) =
                (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
            let headers: BTreeMap<String, String> = lines[1..]
                .iter()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            let body = String::from_utf8_lossy(&body).into_owned();
            let request = CloudRequest { host: host.to_owned(), method, path, headers, body };
            lock(&self.asked).push(request.clone());
            let CloudAnswer { status, headers, body } = (self.answers)(&request);
            let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let length = body.len();
            let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}");
            stream.get_mut().write_all(text.as_bytes())?;
            stream.get_mut().flush()?;
        }
    }
}

/// One byte at a time, so that nothing behind a head is taken.
struct Bytewise<'a>(&'a mut TcpStream);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// Passes bytes on in both directions.
fn pass_on(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (client, server);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}
