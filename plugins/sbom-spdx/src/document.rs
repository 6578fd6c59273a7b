//! The document: SPDX 2.3 in JSON (specification version 2.3, and its JSON schema for the names).

use std::collections::BTreeSet;

use cofferdam_plugin_sdk::{
    diagnostics::Timestamp,
    json::{Value, quoted},
    sbom::Subject,
};
use sha2::{Digest as _, Sha256};

use crate::package::{Package, Purpose};

/// What in-toto calls an SPDX document.
pub const PREDICATE_TYPE: &str = "https://spdx.dev/Document";

const TOOL: &str = concat!("cofferdam-sbom-spdx-", env!("CARGO_PKG_VERSION"));
const NO_ASSERTION: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// The document of an image. The same subject and packages give the same bytes.
pub fn write(subject: &Subject, packages: &[Package]) -> String {
    let digest = subject.digest.strip_prefix("sha256:").unwrap_or(&subject.digest);
    // Piece by piece: the values of all packages together would be many times the text.
    let mut described = image(subject, digest).to_text();
    let mut ids = BTreeSet::new();
    for package in packages {
        described.push(',');
        described.push_str(&describe(package, &mut ids).to_text());
    }
    let mut relations = relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    for id in &ids {
        relations.push(',');
        relations.push_str(&relation(IMAGE, "CONTAINS", id));
    }
    let created = quoted(&moment(subject.date));
    // Unique for the image and what described it (SPDX 2.3, 6.5, with the form that it suggests).
    let namespace = quoted(&format!("https://spdx.org/spdxdocs/{TOOL}-{digest}"));
    format!(
        "{{\"SPDXID\":\"SPDXRef-DOCUMENT\",\"creationInfo\":{{\"created\":{created},\"creators\":[\"Tool: {TOOL}\"]}},\
         \"dataLicense\":\"CC0-1.0\",\"documentNamespace\":{namespace},\"name\":\"sbom\",\"packages\":[{described}],\
         \"relationships\":[{relations}],\"spdxVersion\":\"SPDX-2.3\"}}"
    )
}

fn relation(from: &str, kind: &str, to: &str) -> String {
    let relation = Value::from([
        ("relatedSpdxElement", to.into()),
        ("relationshipType", kind.into()),
        ("spdxElementId", from.into()),
    ]);
    relation.to_text()
}

/// The image as the package that has all others in it.
fn image(subject: &Subject, digest: &str) -> Value {
    let checksum = Value::from([("algorithm", "SHA256".into()), ("checksumValue", digest.into())]);
    Value::from([
        ("SPDXID", IMAGE.into()),
        ("checksums", Value::Array(vec![checksum])),
        ("comment", format!("an image for {}; the checksum is that of its manifest", subject.platform).into()),
        ("copyrightText", NO_ASSERTION.into()),
        ("downloadLocation", NO_ASSERTION.into()),
        ("filesAnalyzed", Value::Boolean(false)),
        ("licenseConcluded", NO_ASSERTION.into()),
        ("licenseDeclared", NO_ASSERTION.into()),
        ("name", "image".into()),
        ("primaryPackagePurpose", "CONTAINER".into()),
        ("supplier", NO_ASSERTION.into()),
        ("versionInfo", subject.digest.as_str().into()),
    ])
}

fn describe(package: &Package, ids: &mut BTreeSet<String>) -> Value {
    let purl = package.purl.to_string();
    let id = identifier(package, &purl);
    ids.insert(id.clone());
    let places: Vec<&str> = package.places.iter().map(String::as_str).collect();
    let locator = Value::from([
        ("referenceCategory", "PACKAGE-MANAGER".into()),
        ("referenceLocator", purl.into()),
        ("referenceType", "purl".into()),
    ]);
    let license = package.license.as_deref().and_then(expression);
    let mut members = vec![
        ("SPDXID", id.into()),
        ("copyrightText", NO_ASSERTION.into()),
        ("downloadLocation", NO_ASSERTION.into()),
        ("externalRefs", Value::Array(vec![locator])),
        ("filesAnalyzed", Value::Boolean(false)),
        ("licenseConcluded", NO_ASSERTION.into()),
        ("licenseDeclared", license.clone().unwrap_or_else(|| NO_ASSERTION.to_owned()).into()),
        ("name", package.name.as_str().into()),
        ("sourceInfo", format!("found in {}", places.join(", ")).into()),
        ("supplier", package.supplier.as_deref().unwrap_or(NO_ASSERTION).into()),
    ];
    if !package.version.is_empty() {
        members.push(("versionInfo", package.version.as_str().into()));
    }
    if let (Some(words), None) = (&package.license, license) {
        // Words that are no expression would make the document invalid as one.
        members.push(("licenseComments", format!("declared as: {words}").into()));
    }
    if let Some(homepage) = package.homepage.as_deref().filter(|homepage| is_url(homepage)) {
        members.push(("homepage", homepage.into()));
    }
    if let Some(sum) = &package.sha256 {
        let checksum = Value::from([("algorithm", "SHA256".into()), ("checksumValue", sum.as_str().into())]);
        members.push(("checksums", Value::Array(vec![checksum])));
    }
    let purpose = match package.purpose {
        Purpose::Unknown => None,
        Purpose::Application => Some("APPLICATION"),
        Purpose::Library => Some("LIBRARY"),
        Purpose::OperatingSystem => Some("OPERATING_SYSTEM"),
    };
    members.extend(purpose.map(|purpose| ("primaryPackagePurpose", purpose.into())));
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Letters, digits, `.` and `-` only (SPDX 2.3, 7.2); what is left of the name is for people, the hash makes it unique.
fn identifier(package: &Package, purl: &str) -> String {
    let fine = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = package.name.chars().take(60).map(fine).collect();
    let hash: String = Sha256::digest(purl).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("SPDXRef-Package-{}-{}-{hash}", package.purl.kind(), name.trim_matches('-'))
}

/// A license expression, if the words are one (SPDX 2.3, annex D).
fn expression(words: &str) -> Option<String> {
    let words = words.trim();
    let is_expression = !words.is_empty() && words.len() < 2000 && spdx::Expression::parse(words).is_ok();
    // References to license texts would have to be in the document.
    (is_expression && !words.contains("Ref-")).then(|| words.to_owned())
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'))
}

/// `YYYY-MM-DDThh:mm:ssZ` (SPDX 2.3, 6.9).
fn moment(date: Timestamp) -> String {
    jiff::Timestamp::from_second(date.seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_whole_seconds() {
        for (seconds, text) in [(0, "1970-01-01T00:00:00Z"), (1_796_083_199, "2026-11-30T23:59:59Z")] {
            assert_eq!(moment(Timestamp { seconds, nanoseconds: 5 }), text);
        }
    }

    #[test]
    fn only_expressions_are_licenses() {
        assert_eq!(expression("MIT OR Apache-2.0").as_deref(), Some("MIT OR Apache-2.0"));
        assert!(expression("GPL-2.0-only WITH Classpath-exception-2.0").is_some());
        for words in ["", "GPLv2+", "MIT/Apache", "LicenseRef-x", "SEE LICENSE IN LICENSE"] {
            assert_eq!(expression(words), None, "{words}");
        }
    }
}
