//! `--provenance`, `--sbom`, `--attest`: what is said about the image beside it, in the forms of `docker buildx build`.

use cofferdam_engine::{Attestations, KeyValue, ProvenanceMode, ProvenanceRequest, SbomRequest, split_fields};

use crate::{
    kaniko_door::go_bool,
    request::{Result, UsageError, form},
};

/// The scanner that is asked where no other is named.
const SCANNER: &str = "sbom-spdx";

const PROVENANCE_FORM: &str = "true, false, or mode=min|max[,builder-id=URI][,reproducible=true]";
const SBOM_FORM: &str = "true, false, or generator=PLUGIN[,KEY=VALUE]";
const ATTEST_FORM: &str = "type=provenance|sbom[,mode=min|max][,generator=PLUGIN][,disabled=true]";

/// The flags.
#[derive(Debug, Default, Clone, Copy)]
pub struct AttestationFlags<'f> {
    /// `--provenance`.
    pub provenance: Option<&'f str>,
    /// `--sbom`.
    pub sbom: Option<&'f str>,
    /// `--attest`.
    pub attest: &'f [String],
}

/// Whether one kind was asked for, and how; `None` where nobody said anything.
type Said<T> = Option<Option<T>>;

/// Reads the flags. `by_default` says whether there is provenance where nobody says anything.
///
/// # Errors
/// A value has another form, or one kind is asked for twice.
pub fn attestations(flags: AttestationFlags<'_>, by_default: bool) -> Result<Attestations> {
    let mut provenance: Said<ProvenanceRequest> = None;
    let mut sbom: Said<SbomRequest> = None;
    if let Some(text) = flags.provenance {
        let wrong = || form("--provenance", text, PROVENANCE_FORM);
        provenance = Some(read_provenance(&shorthand(text).ok_or_else(wrong)?).ok_or_else(wrong)?);
    }
    if let Some(text) = flags.sbom {
        let wrong = || form("--sbom", text, SBOM_FORM);
        sbom = Some(read_sbom(&shorthand(text).ok_or_else(wrong)?).ok_or_else(wrong)?);
    }
    for text in flags.attest {
        let wrong = || form("--attest", text, ATTEST_FORM);
        let mut fields = split_fields(text).ok_or_else(wrong)?;
        let place = fields.iter().position(|field| field.starts_with("type=")).ok_or_else(wrong)?;
        let twice = match fields.remove(place).as_str() {
            "type=provenance" => provenance.replace(read_provenance(&fields).ok_or_else(wrong)?).is_some(),
            "type=sbom" => sbom.replace(read_sbom(&fields).ok_or_else(wrong)?).is_some(),
            _ => return Err(wrong()),
        };
        if twice {
            return Err(UsageError::Combination(format!("`--attest {text}`: that was asked for already; say it once")));
        }
    }
    let least = || ProvenanceRequest { mode: ProvenanceMode::Min, builder_id: None, reproducible: false };
    Ok(Attestations {
        provenance: provenance.unwrap_or_else(|| by_default.then(least)),
        sbom: sbom.flatten(),
        as_artifacts: false,
    })
}

/// The fields that a value of `--provenance` or `--sbom` stands for.
fn shorthand(text: &str) -> Option<Vec<String>> {
    match go_bool(text).ok() {
        Some(true) => Some(Vec::new()),
        Some(false) => Some(vec!["disabled=true".to_owned()]),
        None if text.is_empty() => None,
        None => split_fields(text),
    }
}

fn read_provenance(fields: &[String]) -> Option<Option<ProvenanceRequest>> {
    let mut read = ProvenanceRequest { mode: ProvenanceMode::Min, builder_id: None, reproducible: false };
    let mut is_disabled = false;
    for field in fields {
        match field.split_once('=')? {
            ("mode", "min") => read.mode = ProvenanceMode::Min,
            ("mode", "max") => read.mode = ProvenanceMode::Max,
            ("builder-id", id) if id.contains(':') => read.builder_id = Some(id.to_owned()),
            ("reproducible", value) => read.reproducible = go_bool(value).ok()?,
            // The only one that there is.
            ("version", "v1") => {}
            ("disabled", value) => is_disabled = go_bool(value).ok()?,
            _ => return None,
        }
    }
    Some((!is_disabled).then_some(read))
}

fn read_sbom(fields: &[String]) -> Option<Option<SbomRequest>> {
    let mut read = SbomRequest { scanner: SCANNER.to_owned(), options: Vec::new() };
    let mut is_disabled = false;
    for field in fields {
        match field.split_once('=')? {
            ("generator", name) if !name.is_empty() => read.scanner = name.to_owned(),
            ("disabled", value) => is_disabled = go_bool(value).ok()?,
            ("" | "generator", _) => return None,
            (key, value) => read.options.push(KeyValue { key: key.to_owned(), value: value.to_owned() }),
        }
    }
    Some((!is_disabled).then_some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(provenance: Option<&str>, sbom: Option<&str>, attest: &[&str]) -> Result<Attestations> {
        let attest: Vec<String> = attest.iter().map(|&text| text.to_owned()).collect();
        attestations(AttestationFlags { provenance, sbom, attest: &attest }, true)
    }

    #[test]
    fn nothing_said_is_the_default_and_false_is_nothing() {
        let least = ProvenanceRequest { mode: ProvenanceMode::Min, builder_id: None, reproducible: false };
        let said = read(None, None, &[]).unwrap();
        assert_eq!((said.provenance, said.sbom), (Some(least.clone()), None));
        assert_eq!(attestations(AttestationFlags::default(), false).unwrap(), Attestations::default());
        for off in [read(Some("false"), None, &[]), read(None, None, &["type=provenance,disabled=true"])] {
            assert_eq!(off.unwrap(), Attestations::default());
        }
        assert_eq!(read(Some("true"), Some("0"), &[]).unwrap().provenance, Some(least));
    }

    #[test]
    fn both_spellings_say_the_same() {
        let id = "builder-id=https://ci.example/1";
        let short = read(Some(&format!("mode=max,{id},reproducible=true")), Some("generator=x,a=b"), &[]).unwrap();
        let long = [&format!("type=provenance,mode=max,{id},reproducible=1"), "generator=x,type=sbom,a=b"];
        assert_eq!(read(None, None, &long).unwrap(), short);
        let provenance = short.provenance.unwrap();
        assert_eq!((provenance.mode, provenance.reproducible), (ProvenanceMode::Max, true));
        let sbom = short.sbom.unwrap();
        assert_eq!((sbom.scanner.as_str(), sbom.options[0].key.as_str()), ("x", "a"));
        assert_eq!(read(None, Some("true"), &[]).unwrap().sbom.unwrap().scanner, "sbom-spdx");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (provenance, sbom, attest) in [
            (Some("max"), None, None),
            (Some("mode=most"), None, None),
            (Some("version=v0.2"), None, None),
            (Some("builder-id=me"), None, None),
            (Some(""), None, None),
            (None, Some("."), None),
            (None, Some("generator="), None),
            (None, None, Some("mode=max")),
            (None, None, Some("type=scan")),
            (Some("true"), None, Some("type=provenance")),
        ] {
            let attest: Vec<&str> = attest.into_iter().collect();
            assert!(read(provenance, sbom, &attest).is_err(), "{provenance:?} {sbom:?} {attest:?}");
        }
    }
}
