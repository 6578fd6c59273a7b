//! Whether a text can be the name of an image at all: the grammar of references (distribution's `reference`, as Docker
//! completes it), without looking anything up.

/// The longest path of a repository.
const MAX_PATH: usize = 255;

/// Whether the text is a name with or without registry, tag and digest.
pub(super) fn is_image_name(text: &str) -> bool {
    // An image's bare identifier is no name.
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return false;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (host, rest) = match rest.split_once('/') {
        Some((first, rest)) if is_host_like(first) => (Some(first), rest),
        _ => (None, rest),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    host.is_none_or(is_host) && is_path(path) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

/// A first part that has a dot, a colon or a capital is a registry.
fn is_host_like(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.to_lowercase() != part
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.starts_with('[') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && label.starts_with(|first: char| first.is_ascii_alphanumeric())
            && label.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = match address {
        Some(address) => !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => name.split('.').all(label),
    };
    named && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_path(path: &str) -> bool {
    path.len() <= MAX_PATH && path.split('/').all(is_component)
}

/// Small letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = |end: Option<&u8>| end.is_some_and(alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word)
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_from_other_texts() {
        let digest = "0".repeat(64);
        for name in [
            "scratch",
            "a/b/c:Tag_1.0-x",
            "localhost/a",
            "localhost:5000/a_b__c.d---e:1",
            "Example.org:443/a",
            "[fd00::1]:80/a",
            &format!("a:1@sha256:{digest}"),
        ] {
            assert!(is_image_name(name), "{name}");
        }
        for other in [
            "",
            "a:",
            ":a",
            "A",
            "a/B",
            "a//b",
            "a_",
            "a..b",
            "a___b",
            "%s",
            "a b",
            "$X",
            "a@sha256:0",
            "a:-x",
            "x:/a",
            "-x.y/a",
            &digest,
        ] {
            assert!(!is_image_name(other), "{other}");
        }
    }
}
