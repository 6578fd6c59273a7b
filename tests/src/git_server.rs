//! Git repositories, and git's own servers for them on the loopback interface: the daemon, and `git http-backend` as a CGI
//! program (git-http-backend(1)).

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{run, tool};

/// A directory of repositories that git itself made.
pub struct Repositories {
    directory: tempfile::TempDir,
}

impl Repositories {
    /// An empty directory; `None` (reported as a skip) where git is missing.
    pub fn new() -> Option<Self> {
        tool("git")?;
        Some(Self { directory: tempfile::tempdir().expect("a temporary directory") })
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs git in a repository, which is made if it is not there, with a fixed author and time; the answer is its output.
    #[track_caller]
    pub fn git(&self, repository: &str, arguments: &[&str]) -> String {
        let place = self.path().join(repository);
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]);
            command.args(arguments).current_dir(&place).env("GIT_CONFIG_GLOBAL", "/dev/null");
            command.env("GIT_CONFIG_NOSYSTEM", "1");
            command.env("GIT_AUTHOR_DATE", "1700000000 +0200").env("GIT_COMMITTER_DATE", "1700000000 +0200");
            run(&mut command).success().stdout.trim().to_owned()
        };
        if !place.exists() {
            std::fs::create_dir_all(&place).expect("writable");
            git(&["init", "-q", "-b", "main"]);
        }
        git(arguments)
    }

    /// Writes files into a repository and commits everything; the answer is the commit's id.
    #[track_caller]
    pub fn commit(&self, repository: &str, files: &[(&str, &str)]) -> String {
        self.git(repository, &["status", "-s"]);
        for (name, content) in files {
            let file = self.path().join(repository).join(name);
            std::fs::create_dir_all(file.parent().expect("in the repository")).expect("writable");
            std::fs::write(file, content).expect("writable");
        }
        self.git(repository, &["add", "-A"]);
        self.git(repository, &["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(repository, &["rev-parse", "HEAD"])
    }
}

/// A git daemon for all repositories of a directory; ends with the handle.
pub struct GitDaemon {
    process: Child,
    port: u16,
}

impl GitDaemon {
    /// Starts it.
    pub fn start(repositories: &Repositories) -> Self {
        let directory = run(Command::new("git").arg("--exec-path")).success().stdout;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        // Not through `git`, which would leave it behind when it is killed.
        let process = Command::new(PathBuf::from(directory.trim()).join("git-daemon"))
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", repositories.path().display()))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git-daemon starts");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "git-daemon does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Self { process, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `git http-backend` behind a server that does nothing but call it: one request for each connection. Its threads end with the
/// test's process.
pub struct GitHttp {
    port: u16,
}

impl GitHttp {
    /// Starts it.
    pub fn start(repositories: &Repositories) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let root = repositories.path().to_path_buf();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                // Errors are the client's: it went away.
                thread::spawn(move || serve(stream, &root));
            }
        });
        Self { port }
    }

    /// For a proxy in front.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn serve(stream: TcpStream, root: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("REQUEST_METHOD", &method).env("PATH_INFO", path).env("QUERY_STRING", query);
    backend.envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "content-type" => drop(backend.env("CONTENT_TYPE", value.trim())),
            "git-protocol" => drop(backend.env("GIT_PROTOCOL", value.trim())),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    backend.env("CONTENT_LENGTH", length.to_string());
    let mut running = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    running.stdin.take().expect("piped").write_all(&body)?;
    let answer = running.wait_with_output()?.stdout;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let content = answer.get(end + 4..).unwrap_or_default();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let headers: String =
        head.lines().filter(|line| !line.starts_with("Status: ")).map(|line| format!("{line}\r\n")).collect();
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    stream.write_all(content)
}
