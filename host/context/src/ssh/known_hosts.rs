//! The keys of servers, as OpenSSH keeps them (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! Authorities that sign the keys of hosts (`@cert-authority`) are not followed: a server that only they vouch for is unknown.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use russh::keys::{Algorithm, PublicKey};

/// More than the file of anybody who knows every host of a large company.
const FILE_LIMIT_BYTES: u64 = 32 << 20;

/// The port that is not written.
pub(super) const PORT: u16 = 22;

/// What the files say of one server.
#[derive(Debug, Default)]
pub(super) struct KnownKeys(Vec<Known>);

#[derive(Debug)]
struct Known {
    key: PublicKey,
    place: Place,
    is_revoked: bool,
    /// The line names the host without the port at which it is reached: OpenSSH then takes a key that is the same, and
    /// nothing else from it.
    without_port: bool,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// From 1.
    pub(super) line: usize,
}

/// What is to be thought of a server's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the server's.
    Known,
    /// Nothing is known of a key of this kind.
    Unknown,
    /// A key of this kind is known, and it is another one.
    Differs(Place),
    /// Nobody may use it.
    Revoked(Place),
}

impl KnownKeys {
    /// Reads all that the files have of a server. A line that is none is passed over, as OpenSSH does.
    ///
    /// # Errors
    /// A file is there and can't be read.
    pub(super) fn read(files: &[PathBuf], host: &str, port: u16) -> Result<Self, (PathBuf, io::Error)> {
        let mut known = Self::default();
        for file in files {
            let text = read(file).map_err(|error| (file.clone(), error))?;
            known.take(&text, file, host, port);
        }
        Ok(known)
    }

    fn take(&mut self, text: &str, file: &Path, host: &str, port: u16) {
        let host = host.to_ascii_lowercase();
        let full = if port == PORT { host.clone() } else { format!("[{host}]:{port}") };
        for (number, line) in text.lines().enumerate() {
            let mut fields = line.split_ascii_whitespace().peekable();
            let marker = fields.next_if(|field| field.starts_with('@'));
            let (Some(hosts), Some(kind), Some(key)) = (fields.next(), fields.next(), fields.next()) else { continue };
            if hosts.starts_with('#') || !matches!(marker, None | Some("@revoked")) {
                continue;
            }
            let with_port = is_named(hosts, &full);
            if !with_port && (port == PORT || !is_named(hosts, &host)) {
                continue;
            }
            if let Ok(key) = PublicKey::from_openssh(&format!("{kind} {key}")) {
                let place = Place { file: file.to_owned(), line: number + 1 };
                self.0.push(Known { key, place, is_revoked: marker.is_some(), without_port: !with_port });
            }
        }
    }

    /// What they say of this key.
    pub(super) fn verdict(&self, key: &PublicKey) -> Verdict {
        let same = |known: &&Known| known.key.key_data() == key.key_data();
        if let Some(known) = self.0.iter().filter(same).find(|known| known.is_revoked) {
            return Verdict::Revoked(known.place.clone());
        }
        if self.0.iter().any(|known| same(&known)) {
            return Verdict::Known;
        }
        let of_its_kind = self.usable().find(|known| known.key.algorithm() == key.algorithm());
        of_its_kind.map_or(Verdict::Unknown, |known| Verdict::Differs(known.place.clone()))
    }

    /// Whether a key of such a kind is known: servers have several, and are to show one of those.
    pub(super) fn has_kind(&self, kind: &Algorithm) -> bool {
        self.usable().any(|known| match (known.key.algorithm(), kind) {
            // One key serves with every hash.
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (known, kind) => known == *kind,
        })
    }

    fn usable(&self) -> impl Iterator<Item = &Known> {
        self.0.iter().filter(|known| !known.is_revoked && !known.without_port)
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(file) {
        Ok(file) => file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the first field of a line names the host: patterns with `*` and `?`, taken back by `!`, or one hash.
fn is_named(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return is_hash_of(hashed, name).unwrap_or(false);
    }
    let mut named = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, name) => return false,
            Some(_) => {}
            None => named |= matches(pattern, name),
        }
    }
    named
}

/// `SALT|HASH`: an HMAC of the name with SHA-1, which hides names and is no signature.
fn is_hash_of(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &STANDARD.decode(salt).ok()?);
    Some(hmac::verify(&key, name.as_bytes(), &STANDARD.decode(hash).ok()?).is_ok())
}

fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[of] => (at, of) = (at + 1, of + 1),
            // The last star takes one more.
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, of) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    const SECOND: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn verdict(text: &str, host: &str, port: u16) -> Verdict {
        let mut known = KnownKeys::default();
        known.take(text, Path::new("/f"), host, port);
        known.verdict(&key(FIRST))
    }

    fn place(line: usize) -> Place {
        Place { file: "/f".into(), line }
    }

    #[test]
    fn a_line_is_of_the_hosts_that_it_names() {
        for (hosts, host, port, expected) in [
            ("a.example", "a.example", 22, true),
            ("A.example", "a.EXAMPLE", 22, true),
            ("b.example,a.example", "a.example", 22, true),
            ("a.example", "b.a.example", 22, false),
            ("*.example", "a.example", 22, true),
            ("*.example,!a.example", "a.example", 22, false),
            ("?.example", "a.example", 22, true),
            ("a*b*c", "axxbyybzzc", 22, true),
            ("a*b*c", "axxbyybzz", 22, false),
            ("[a.example]:2222", "a.example", 2222, true),
            ("[a.example]:2222", "a.example", 22, false),
            // Without its port, but the same key.
            ("a.example", "a.example", 2222, true),
            ("[a.example]:*", "a.example", 2222, true),
        ] {
            let expected = if expected { Verdict::Known } else { Verdict::Unknown };
            assert_eq!(verdict(&format!("{hosts} {FIRST} comment\n"), host, port), expected, "{hosts} {host}:{port}");
        }
    }

    #[test]
    fn names_may_be_hashed() {
        // ssh-keygen -H of `host.example`.
        let salt = STANDARD.encode([7; 20]);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[7; 20]), b"host.example");
        let line = format!("|1|{salt}|{} {FIRST}\n", STANDARD.encode(tag.as_ref()));
        assert_eq!(verdict(&line, "host.example", 22), Verdict::Known);
        assert_eq!(verdict(&line, "other.example", 22), Verdict::Unknown);
        assert_eq!(verdict(&format!("|1|x|y {FIRST}\n"), "host.example", 22), Verdict::Unknown);
    }

    #[test]
    fn other_keys_and_revoked_ones_are_told_with_their_line() {
        assert_eq!(verdict(&format!("# x\nh {SECOND}\n"), "h", 22), Verdict::Differs(place(2)));
        assert_eq!(verdict(&format!("h {SECOND}\nh {FIRST}\n"), "h", 22), Verdict::Known);
        assert_eq!(verdict(&format!("h {FIRST}\n@revoked * {FIRST}\n"), "h", 22), Verdict::Revoked(place(2)));
        assert_eq!(verdict(&format!("@cert-authority * {FIRST}\n"), "h", 22), Verdict::Unknown);
        // Of another port, nothing but the same key counts.
        assert_eq!(verdict(&format!("h {SECOND}\n"), "h", 23), Verdict::Unknown);
        assert_eq!(verdict("h ssh-ed25519\nh x y\n\n", "h", 22), Verdict::Unknown);
    }
}
