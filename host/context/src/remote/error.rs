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
