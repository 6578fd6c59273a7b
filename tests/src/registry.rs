//! Debian's `docker-registry` on a free port of the loopback interface.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Certificates, run, tool};

/// A running registry; ends with the handle.
pub struct Registry {
    process: Child,
    directory: tempfile::TempDir,
    port: u16,
    password: Option<(&'static str, &'static str)>,
}

/// Whose certificate a registry shows.
enum Tls<'a> {
    None,
    Own,
    Of(&'a Certificates),
}

impl Registry {
    /// Starts one that anybody may use; `None` if the machine has no `docker-registry`.
    pub fn open() -> Option<Self> {
        Self::start(None, Tls::None)
    }

    /// Starts one that wants this user and password, over TLS with a certificate that is shown for other names than its own.
    pub fn with_certificates(user: &'static str, password: &'static str, certificates: &Certificates) -> Option<Self> {
        Self::start(Some((user, password)), Tls::Of(certificates))
    }

    /// Starts one that wants a password.
    pub fn with_password() -> Option<Self> {
        Self::start(Some(("pusher", "correct horse battery staple")), Tls::None)
    }

    /// Starts one that speaks TLS only, with a certificate that nobody knows ([`Registry::certificate`]). Its log has a line for
    /// each request.
    pub fn with_tls() -> Option<Self> {
        Self::start(None, Tls::Own)
    }

    fn start(password: Option<(&'static str, &'static str)>, tls: Tls<'_>) -> Option<Self> {
        let program = tool("docker-registry")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let has_tls = !matches!(tls, Tls::None);
        let tls = match tls {
            Tls::Own => {
                make_certificate(&tool("openssl")?, directory.path());
                let place = directory.path().display();
                format!(", tls: {{certificate: {place}/cert.pem, key: {place}/key.pem}}")
            }
            Tls::Of(other) => {
                format!(", tls: {{certificate: {}, key: {}}}", other.certificate().display(), other.key().display())
            }
            Tls::None => String::new(),
        };
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: {}}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"{tls}}}\n",
            !has_tls,
            directory.path().join("data").display()
        );
        if let Some((user, password)) = password {
            let htpasswd = tool("htpasswd")?;
            let line = run(Command::new(htpasswd).args(["-Bbn", user, password])).success().stdout;
            let file = directory.path().join("htpasswd");
            std::fs::write(&file, line).expect("writable");
            config.push_str(&format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", file.display()));
        }
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).expect("writable");
        let process = Command::new(program)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(directory.path().join("access")).expect("writable"))
            .stderr(std::fs::File::create(directory.path().join("log")).expect("writable"))
            .spawn()
            .expect("docker-registry starts");
        let registry = Self { process, directory, port, password };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// User and password, where it wants them.
    pub fn credentials(&self) -> Option<(&'static str, &'static str)> {
        self.password
    }

    /// A directory with a `config.json` that holds the password: the value for `DOCKER_CONFIG`.
    pub fn docker_config(&self) -> PathBuf {
        let directory = self.directory.path().join("docker");
        std::fs::create_dir_all(&directory).expect("writable");
        let (user, password) = self.password.unwrap_or_default();
        let text =
            format!("{{\"auths\":{{\"{}\":{{\"username\":\"{user}\",\"password\":\"{password}\"}}}}}}", self.host());
        std::fs::write(directory.join("config.json"), text).expect("writable");
        for path in [self.directory.path(), &directory, &directory.join("config.json")] {
            // Builders that run as another user read it too.
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
        }
        directory
    }

    /// skopeo with this registry's password; `arguments` name images as `docker://HOST/NAME`.
    #[track_caller]
    pub fn skopeo(&self, arguments: &[&str]) -> Option<crate::Finished> {
        let mut command = Command::new(tool("skopeo")?);
        let (verb, rest) = arguments.split_first().expect("a verb");
        command.args(["--insecure-policy", verb]);
        // Not by `config.json`: skopeo reads `auth` there, but not `username` and `password`.
        let sides: &[&str] = if *verb == "copy" { &["--src-", "--dest-"] } else { &["--"] };
        for side in sides {
            command.arg(format!("{side}tls-verify=false"));
            if let Some((user, password)) = self.password {
                command.arg(format!("{side}creds={user}:{password}"));
            }
        }
        Some(run(command.args(rest)))
    }

    /// Puts an image of an OCI layout into the registry.
    #[track_caller]
    pub fn load(&self, layout: &Path, tag: &str, name: &str) -> Option<()> {
        let source = format!("oci:{}:{tag}", layout.display());
        let destination = format!("docker://{}/{name}", self.host());
        self.skopeo(&["copy", &source, &destination])?.success();
        Some(())
    }

    /// A document of the registry: a manifest or an index, as it is served.
    #[track_caller]
    pub fn manifest(&self, name: &str) -> Option<serde_json::Value> {
        let raw = self.skopeo(&["inspect", "--raw", &format!("docker://{}/{name}", self.host())])?.success().stdout;
        Some(serde_json::from_str(&raw).expect("a document"))
    }

    /// The digest under which an image is served.
    #[track_caller]
    pub fn digest(&self, name: &str) -> Option<String> {
        let image = format!("docker://{}/{name}", self.host());
        let inspected = self.skopeo(&["inspect", "--no-tags", "--format", "{{.Digest}}", &image])?;
        Some(inspected.success().stdout.trim().to_owned())
    }

    /// The tags of a repository, sorted; empty if there is no such repository.
    #[track_caller]
    pub fn tags(&self, name: &str) -> Option<Vec<String>> {
        let listed = self.skopeo(&["list-tags", &format!("docker://{}/{name}", self.host())])?;
        if listed.code != 0 && listed.stderr.contains("404 (Not Found)") {
            return Some(Vec::new());
        }
        let listed: serde_json::Value = serde_json::from_str(&listed.success().stdout).expect("a document");
        let tags = listed["Tags"].as_array().cloned().unwrap_or_default();
        let mut tags: Vec<String> = tags.iter().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect();
        tags.sort();
        Some(tags)
    }

    /// The file in which the registry keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// The certificate of one that speaks TLS.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// A line for each request to one that speaks TLS, as web servers write them.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access")).unwrap_or_default()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the registry wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// A key and a certificate for 127.0.0.1 that it signed itself. rustls takes no certificate of an authority, openssl's default here,
/// for that of a server.
fn make_certificate(openssl: &Path, directory: &Path) {
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests", "-days", "2"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"]);
    run(command.args(["-keyout", "key.pem", "-out", "cert.pem"]).current_dir(directory)).success();
    for path in [directory, &directory.join("cert.pem")] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
