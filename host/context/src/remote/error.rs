//! What can go wrong with a source in a network.

use std::io;

/// A source can't be fetched. URLs in messages have no passwords.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers.
    #[error(
        "can't connect to `{host}`: {reason}; check its name, and whether this machine reaches it (proxy, firewall)"
    )]
    Connect {
        /// Host and port.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server is not who it says it is.
    #[error(
        "`{host}` can't be trusted: {reason}; if its certificate comes from an authority of your own, name the file with that in SSL_CERT_FILE"
    )]
    Tls {
        /// Host and port.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// A machine that only the builder's own machine should reach: cloud providers give out credentials there.
    #[error("`{host}` is a link-local address, which sources are never fetched from; use a server's own name")]
    LinkLocal {
        /// The host.
        host: String,
    },
    /// The operator's policy.
    #[error(
        "the policy does not let anything be fetched from `{host}`; it may be fetched from where the list `fetch` of its section [sources] holds \"{host}\""
    )]
    Forbidden {
        /// Host and port.
        host: String,
    },
    /// The server wants a password.
    #[error("`{url}` wants a user and password, and {}; {remedy}", if *.given { "refuses those that it was given" } else { "there are none" })]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// Whether some were sent.
        given: bool,
        /// What to do.
        remedy: &'static str,
    },
    /// Nobody handed out an agent or a key.
    #[error(
        "`{url}` is reached over SSH, and there is no key for that; give `--ssh default` for the agent of SSH_AUTH_SOCK, or `--ssh default=FILE` for the private key in a file"
    )]
    NoSshKeys {
        /// What is wanted.
        url: String,
    },
    /// The server lets none of the keys in.
    #[error("`{url}` lets `{user}` in with {}; add a key that may read it to the agent, or name its file with `--ssh default=FILE`", match *.keys_count {
        0 => "a key only, and the SSH agent has none".to_owned(),
        1 => "another key than the one that the SSH agent has".to_owned(),
        count => format!("another key than the {count} that the SSH agent has"),
    })]
    SshRefused {
        /// What is wanted.
        url: String,
        /// Who wanted in.
        user: String,
        /// How many keys were offered.
        keys_count: usize,
    },
    /// Nothing vouches for the server.
    #[error(
        "`{host}` can't be trusted: its {kind} key {fingerprint} is in none of the files of known hosts ({}); compare that fingerprint with the one that the host's owner publishes, then add this line to one of them, or to a file that SSH_KNOWN_HOSTS names: {line}", list(.files)
    )]
    UnknownHostKey {
        /// As those files name it.
        host: String,
        /// The key's algorithm.
        kind: String,
        /// `SHA256:` and the digest.
        fingerprint: String,
        /// Where it was looked for.
        files: Vec<String>,
        /// What would make it known.
        line: String,
    },
    /// The server has another key than it should have.
    #[error(
        "`{host}` can't be trusted: its {kind} key {fingerprint} is not the one that {place} has, so somebody may have taken its place; only if the host's owner says that the key changed, replace that line by this one: {line}"
    )]
    OtherHostKey {
        /// As the file names it.
        host: String,
        /// The key's algorithm.
        kind: String,
        /// `SHA256:` and the digest.
        fingerprint: String,
        /// File and line.
        place: String,
        /// The line as it would be.
        line: String,
    },
    /// The server's key is one that nobody may use any more.
    #[error(
        "`{host}` can't be trusted: {place} says that its {kind} key {fingerprint} is revoked; ask the host's owner"
    )]
    RevokedHostKey {
        /// As the file names it.
        host: String,
        /// The key's algorithm.
        kind: String,
        /// `SHA256:` and the digest.
        fingerprint: String,
        /// File and line.
        place: String,
    },
    /// Any other answer that is no success.
    #[error("`{url}` answers {status}; {remedy}")]
    Status {
        /// What was asked for.
        url: String,
        /// Number and name.
        status: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A store of objects does not give one out.
    #[error("`{object}` can't be fetched: {answer}; {remedy}")]
    Object {
        /// What was asked for.
        object: String,
        /// What the store said.
        answer: String,
        /// What to do.
        remedy: String,
    },
    /// A store has no object of a name.
    #[error("`{object}` can't be fetched: {answer}; {remedy}")]
    MissingObject {
        /// What was asked for.
        object: String,
        /// What the store said.
        answer: String,
        /// What to do.
        remedy: String,
    },
    /// Whoever should give credentials for a store does not.
    #[error("there are no credentials for the store: {reason}; {remedy}")]
    CloudCredentials {
        /// What was found.
        reason: String,
        /// What gives some.
        remedy: &'static str,
    },
    /// A redirect that is not followed.
    #[error("`{url}` redirects {to}; use the address that it ends at")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why it is not followed.
        to: String,
    },
    /// The connection ended, or nothing came for too long.
    #[error(
        "`{url}` was not received whole: {reason}; build again, or look at the server and what is on the way to it"
    )]
    Broken {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// More than the bounds allow.
    #[error("`{url}` has more than {limit} {unit}; use a smaller source")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The bound.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A text that is no source.
    #[error("`{text}` {problem}")]
    Invalid {
        /// What was written, without a password.
        text: String,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("`{url}` has no {wanted}{known}")]
    MissingReference {
        /// The repository.
        url: String,
        /// What was looked for.
        wanted: String,
        /// What is there, as the end of the message.
        known: String,
    },
    /// Another commit than the one that was asked for.
    #[error("`{url}` is at commit {found}, not {expected}; correct the checksum, or name the commit that you want")]
    OtherCommit {
        /// The repository.
        url: String,
        /// Its commit.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// The directory of a fetched source is not there.
    #[error("`{url}` has no directory `{directory}`; check its spelling")]
    NoDirectory {
        /// The source.
        url: String,
        /// The directory.
        directory: String,
    },
    /// The repository or the way to it is broken or of a kind that is not read.
    #[error("the git repository `{url}` can't be fetched: {reason}")]
    Git {
        /// The repository.
        url: String,
        /// What was found.
        reason: String,
    },
    /// The archive is none, or is damaged.
    #[error("`{url}` can't be unpacked: {reason}")]
    Archive {
        /// The archive.
        url: String,
        /// What was found.
        reason: String,
    },
    /// The machine refused.
    #[error("can't {action}")]
    Storage {
        /// What was tried.
        action: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The build was stopped meanwhile.
    #[error("the build was stopped")]
    Stopped,
}

fn list(files: &[String]) -> String {
    if files.is_empty() { "there are none".to_owned() } else { files.join(", ") }
}
