//! Debian's `docker-registry`, on a free port of this machine, gone when dropped.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub const USER: &str = "builder";
pub const PASSWORD: &str = "p:ass wörd";

/// A registry that runs.
pub struct Registry {
    child: Child,
    port: u16,
    /// Its configuration and data, kept as long as it runs.
    _directory: TempDir,
}

/// Whom the registry lets in.
pub enum Access {
    Everyone,
    /// `USER` with `PASSWORD`.
    Password,
    /// Whoever shows the registry's own certificate as a client's.
    ClientCertificate,
    /// Who has a token of this server, signed by the certificate in the file.
    Token {
        realm: String,
        certificate: PathBuf,
    },
}

/// A key and a certificate for 127.0.0.1 that it signed itself, made by `openssl`.
pub struct Certificate {
    directory: TempDir,
}

impl Certificate {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test-issuer", "-days", "2"])
            // rustls takes no certificate of an authority, openssl's default here, for that of a server.
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { directory }
    }

    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}

impl Registry {
    pub fn start(access: &Access) -> Self {
        Self::start_with(access, None)
    }

    /// With TLS, and with the mistake of many registries behind proxies: it names itself with `http`.
    pub fn start_tls(access: &Access, certificate: &Certificate) -> Self {
        Self::start_with(access, Some(certificate))
    }

    fn start_with(access: &Access, tls: Option<&Certificate>) -> Self {
        let directory = TempDir::new().unwrap();
        // Another process may take the port between the two: then the registry ends, and another port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = directory.path().join("config.yml");
            fs::write(&config, configuration(directory.path(), port, access, tls)).unwrap();
            let log = fs::File::create(directory.path().join("log")).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .env_remove("HTTP_PROXY")
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            if answers(port, &mut child) {
                return Self { child, port, _directory: directory };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry does not start: {}", fs::read_to_string(directory.path().join("log")).unwrap());
    }

    /// Host and port, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(port: u16, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

fn configuration(directory: &Path, port: u16, access: &Access, tls: Option<&Certificate>) -> String {
    let data = directory.join("data");
    let auth = match access {
        Access::Everyone | Access::ClientCertificate => String::new(),
        Access::Password => {
            let output = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output().unwrap();
            assert!(output.status.success(), "htpasswd: {}", String::from_utf8_lossy(&output.stderr));
            let file = directory.join("htpasswd");
            fs::write(&file, output.stdout).unwrap();
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
        }
        Access::Token { realm, certificate } => format!(
            "auth:\n  token:\n    realm: {realm}\n    service: test-registry\n    issuer: test-issuer\n    rootcertbundle: {}\n",
            certificate.display()
        ),
    };
    let tls = tls.map_or_else(String::new, |tls| {
        let (certificate, key) = (tls.certificate(), tls.key());
        let (certificate, key) = (certificate.display(), key.display());
        let clients = match access {
            Access::ClientCertificate => format!("    clientcas:\n      - {certificate}\n"),
            _ => String::new(),
        };
        format!("  host: http://127.0.0.1:{port}\n  tls:\n    certificate: {certificate}\n    key: {key}\n{clients}")
    });
    format!(
        "version: 0.1\nlog:\n  accesslog:\n    disabled: false\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
         delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: test\n{tls}{auth}",
        data.display()
    )
}
