//! Private keys of files, and an SSH agent's answers with them.
//!
//! Only what OpenSSH writes today (its PROTOCOL.key) and RSA keys as OpenSSL wrote them before are read, unencrypted: nobody
//! is there to ask for a passphrase. The keys are in memory alone; a command sees the agent, never a key.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    rsa::{self, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    },
};

/// More than any key file has.
pub const KEY_LIMIT_BYTES: u64 = 256 << 10;

/// Messages of the agent protocol (draft-ietf-sshm-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Flags of a request to sign (section 6.2).
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// Keys that an agent holds.
#[derive(Default)]
pub struct SshKeys(Vec<PrivateKey>);

struct PrivateKey {
    /// As the protocol encodes it.
    public: Vec<u8>,
    comment: Vec<u8>,
    secret: Secret,
}

enum Secret {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<rsa::KeyPair>),
    /// With the name of its curve.
    Ecdsa(Box<EcdsaKeyPair>, &'static str),
}

impl SshKeys {
    /// Adds the key of a file's text.
    ///
    /// # Errors
    /// It is none that is read here; says what to do.
    pub fn add(&mut self, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no private key in PEM".to_owned())?;
        let key = match () {
            () if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") => openssh(&decoded(text)?)?,
            () if text.contains("-----BEGIN RSA PRIVATE KEY-----") => {
                if text.contains("ENCRYPTED") {
                    return Err(encrypted());
                }
                let pair =
                    rsa::KeyPair::from_der(&decoded(text)?).map_err(|error| format!("it can't be used: {error}"))?;
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                let public = Out::default().string(b"ssh-rsa").number(&e).number(&n).0;
                PrivateKey { public, comment: Vec::new(), secret: Secret::Rsa(Box::new(pair)) }
            }
            () if text.contains("PRIVATE KEY-----") => {
                return Err("it is not in OpenSSH's form; `ssh-keygen -p -f FILE` writes it so".to_owned());
            }
            () => return Err("it is neither the socket of an agent nor a private key".to_owned()),
        };
        self.0.push(key);
        Ok(())
    }

    /// The agent's answer to a message, both without their length.
    pub fn answer(&self, message: &[u8]) -> Vec<u8> {
        match message.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => {
                let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
                let answer = Out(vec![IDENTITIES_ANSWER]).plain(&count.to_be_bytes());
                self.0.iter().fold(answer, |answer, key| answer.string(&key.public).string(&key.comment)).0
            }
            Some((&SIGN_REQUEST, rest)) => {
                let signed = self.sign(&mut In(rest));
                signed.map_or_else(|| vec![FAILURE], |signature| Out(vec![SIGN_RESPONSE]).string(&signature).0)
            }
            _ => vec![FAILURE],
        }
    }

    fn sign(&self, request: &mut In<'_>) -> Option<Vec<u8>> {
        let (public, data, flags) = (request.string()?, request.string()?, request.integer()?);
        let key = self.0.iter().find(|key| key.public == public)?;
        let random = SystemRandom::new();
        match &key.secret {
            Secret::Ed25519(pair) => Some(Out::default().string(b"ssh-ed25519").string(pair.sign(data).as_ref()).0),
            Secret::Rsa(pair) => {
                // Signatures with SHA-1 (RFC 4253) are refused by every server of today, so there are none.
                let (name, padding): (&[u8], &'static dyn ring::signature::RsaEncoding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => (b"rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => (b"rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                Some(Out::default().string(name).string(&signature).0)
            }
            Secret::Ecdsa(pair, curve) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let name = format!("ecdsa-sha2-{curve}");
                Some(Out::default().string(name.as_bytes()).string(&Out::default().number(r).number(s).0).0)
            }
        }
    }
}

fn encrypted() -> String {
    "it has a passphrase, which nobody can be asked for; start an agent, `ssh-add` the key, and pass the agent"
        .to_owned()
}

/// What is between the lines of PEM.
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let content: String = lines.take_while(|line| !line.starts_with("-----END")).map(str::trim).collect();
    STANDARD.decode(content).map_err(|_| "it is damaged: it is no base64".to_owned())
}

/// OpenSSH's PROTOCOL.key.
fn openssh(bytes: &[u8]) -> Result<PrivateKey, String> {
    const MAGIC: &[u8] = b"openssh-key-v1\0";
    let damaged = || "it is damaged".to_owned();
    let mut outer = In(bytes.strip_prefix(MAGIC).ok_or_else(damaged)?);
    let cipher = outer.string().ok_or_else(damaged)?;
    if cipher != b"none" {
        return Err(encrypted());
    }
    let (_kdf, _options, count) = (outer.string(), outer.string(), outer.integer());
    let (public, secrets) = (outer.string(), outer.string().ok_or_else(damaged)?);
    if count != Some(1) {
        return Err("it holds several keys; give each a file of its own".to_owned());
    }
    let mut inner = In(secrets);
    if inner.integer() != inner.integer() {
        return Err(damaged());
    }
    let kind = inner.string().ok_or_else(damaged)?;
    let secret = secret(kind, &mut inner)?;
    let comment = inner.string().ok_or_else(damaged)?.to_vec();
    Ok(PrivateKey { public: public.ok_or_else(damaged)?.to_vec(), comment, secret })
}

fn secret(kind: &[u8], inner: &mut In<'_>) -> Result<Secret, String> {
    let damaged = || "it is damaged".to_owned();
    let unusable = |error: ring::error::KeyRejected| format!("it can't be used: {error}");
    match kind {
        b"ssh-ed25519" => {
            let (public, both) = (inner.string().ok_or_else(damaged)?, inner.string().ok_or_else(damaged)?);
            let seed = both.get(..32).ok_or_else(damaged)?;
            Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Secret::Ed25519).map_err(unusable)
        }
        b"ssh-rsa" => {
            let mut next = || inner.number().ok_or_else(damaged);
            let (n, e, d, q_inv, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
            let (d_p, d_q) = (remainder(d, &less_one(p)), remainder(d, &less_one(q)));
            let public_key = PublicKeyComponents { n, e };
            let components = rsa::KeyPairComponents { public_key, d, p, q, dP: &*d_p, dQ: &*d_q, qInv: q_inv };
            rsa::KeyPair::from_components(&components).map(|pair| Secret::Rsa(Box::new(pair))).map_err(unusable)
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" => {
            let (algorithm, curve, length) = match kind {
                b"ecdsa-sha2-nistp256" => (&ECDSA_P256_SHA256_FIXED_SIGNING, "nistp256", 32),
                _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, "nistp384", 48),
            };
            let (_curve, public) = (inner.string(), inner.string().ok_or_else(damaged)?);
            let number = inner.number().ok_or_else(damaged)?;
            let mut scalar = vec![0; length - number.len().min(length)];
            scalar.extend_from_slice(number);
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, public, &random);
            pair.map(|pair| Secret::Ecdsa(Box::new(pair), curve)).map_err(unusable)
        }
        other => {
            let other = String::from_utf8_lossy(other);
            Err(format!(
                "it is of the kind {other}, which is not served; use ed25519, RSA or ECDSA (256, 384), or an agent"
            ))
        }
    }
}

/// An odd number without its last bit.
fn less_one(odd: &[u8]) -> Vec<u8> {
    let mut number = odd.to_vec();
    if let Some(last) = number.last_mut() {
        *last &= !1;
    }
    number
}

/// The remainder of a division, numbers big-endian, by shifting and subtracting: it is done twice for a key.
fn remainder(number: &[u8], divisor: &[u8]) -> Vec<u8> {
    // One byte more than the divisor, for what is shifted out before it is subtracted.
    let divisor: Vec<u8> = [&[0], divisor].concat();
    let mut rest = vec![0_u8; divisor.len()];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if rest >= divisor {
            let mut borrow = false;
            for (byte, subtracted) in rest.iter_mut().zip(&divisor).rev() {
                let (less, first) = byte.overflowing_sub(*subtracted);
                let (less, second) = less.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (less, first || second);
            }
        }
    }
    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
    rest.split_off(zeros)
}

/// A message being read (RFC 4251, section 5).
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn integer(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.integer()? as usize;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// An `mpint` that is not negative, without leading zeros.
    fn number(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(&bytes[zeros..])
    }
}

/// A message being written.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn plain(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn string(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.plain(&length.to_be_bytes()).plain(bytes)
    }

    /// An `mpint`: a leading zero keeps it from being negative.
    fn number(self, bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[zeros..];
        match bytes.first().is_some_and(|first| first & 0x80 != 0) {
            true => self.string(&[&[0], bytes].concat()),
            false => self.string(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_arithmetic() {
        for (number, divisor) in
            [(0_u64, 7_u64), (6, 7), (7, 7), (u64::MAX, 10_007), (1 << 63, (1 << 32) - 2), (12345, 1 << 40)]
        {
            let strip = |number: u64| {
                let bytes = number.to_be_bytes();
                bytes[bytes.iter().take_while(|byte| **byte == 0).count()..].to_vec()
            };
            assert_eq!(remainder(&strip(number), &strip(divisor)), strip(number % divisor), "{number} {divisor}");
        }
    }

    #[test]
    fn nonsense_is_a_failure_and_no_panic() {
        let keys = SshKeys::default();
        for message in
            [&[][..], &[SIGN_REQUEST], &[SIGN_REQUEST, 255, 255, 255, 255, 1], &[99], &[SIGN_REQUEST, 0, 0, 0, 0]]
        {
            assert_eq!(keys.answer(message), [FAILURE], "{message:?}");
        }
        assert_eq!(keys.answer(&[REQUEST_IDENTITIES]), [IDENTITIES_ANSWER, 0, 0, 0, 0]);
        let cut =
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END", STANDARD.encode(b"openssh-key-v1\0\0\0"));
        assert!(SshKeys::default().add(cut.as_bytes()).is_err());
        let error = SshKeys::default().add(b"-----BEGIN PRIVATE KEY-----").unwrap_err();
        assert!(error.contains("ssh-keygen -p"), "{error}");
    }
}
