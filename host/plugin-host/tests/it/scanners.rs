//! The scanner of this program, on trees of this machine.

use std::{fs, sync::Arc};

use cofferdam_digest::Digest;
use cofferdam_plan::step::KeyValue;
use cofferdam_plugin_host::{ApplyError, AuditLog, HostOptions, PluginHost, Policy, ScanError, Subject};
use cofferdam_rootfs::Timestamp;

use crate::guest::tree;

fn subject() -> Subject {
    Subject {
        digest: Digest::of(b"manifest"),
        platform: "linux/amd64".to_owned(),
        date: Timestamp { seconds: 86_400, nanoseconds: 0 },
        options: Vec::new(),
    }
}

fn host(options: HostOptions) -> PluginHost {
    PluginHost::load(options).map_err(|errors| format!("{errors:?}")).unwrap()
}

/// A tree with one package, and one that lies elsewhere.
fn image() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("root/etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        ("root/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"),
        ("outside", "Package: secret\nStatus: install ok installed\nVersion: 1\n"),
    ] {
        fs::create_dir_all(place.path().join(path).parent().unwrap()).unwrap();
        fs::write(place.path().join(path), text).unwrap();
    }
    std::os::unix::fs::symlink("../../../../../outside", place.path().join("root/var/lib/dpkg/status.d")).unwrap();
    place
}

#[test]
fn a_scanner_sees_the_image_and_nothing_else() {
    let (place, log) = (image(), tempfile::NamedTempFile::new().unwrap());
    let audit = Some(Arc::new(AuditLog::open(log.path()).unwrap()));
    let host = host(HostOptions { audit, ..HostOptions::default() });
    assert_eq!(host.scanners(), ["sbom-spdx"]);
    let scanned = host.scan("spdx", &subject(), tree(&place.path().join("root"))).unwrap();
    assert!(scanned.warnings.is_empty(), "{:?}", scanned.warnings);
    let [document] = &scanned.documents[..] else { panic!() };
    assert_eq!(document.predicate_type, "https://spdx.dev/Document");
    let names: Vec<&str> =
        document.content["packages"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["image", "a", "debian"]);
    assert_eq!(document.content["creationInfo"]["created"], "1970-01-02T00:00:00Z");
    // The same again, byte for byte.
    let again = host.scan("sbom-spdx", &subject(), tree(&place.path().join("root"))).unwrap();
    assert_eq!(again.documents[0].content, document.content);
    let log = fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("finished-rootfs") && log.contains("/var/lib/dpkg/status"), "{log}");
}

/// What takes the most memory for its size: bytes that are no UTF-8, fields, packages, values, and a file that is nothing.
#[test]
fn no_image_makes_the_scanner_run_out_of_memory() {
    let host = host(HostOptions::default());
    let packages: String = (0..1_000_000).map(|number| format!("Package:{number}\nVersion:1\n\n")).collect();
    for (path, content) in [
        ("var/lib/dpkg/status", vec![0xff; 32 << 20]),
        ("var/lib/dpkg/status", b"a:\n".repeat(10 << 20)),
        ("var/lib/dpkg/status", packages.into_bytes()),
        ("lib/apk/db/installed", b"P:a\nV:1\n\n".repeat(3 << 20)),
        ("var/lib/rpm/rpmdb.sqlite", [b"SQLite format 3\0\x10\0".to_vec(), vec![0; 100 << 20]].concat()),
        ("x/node_modules/y/package.json", [b"[0".to_vec(), b",0".repeat((1 << 19) - 2), b"]".to_vec()].concat()),
        ("x/node_modules/y/package.json", [b"[[]".to_vec(), b",[]".repeat((1 << 20) / 3 - 2), b"]".to_vec()].concat()),
        ("x/Cargo.lock", [b"a=[0".to_vec(), b",0".repeat((1 << 19) - 4), b"]".to_vec()].concat()),
        ("x/Cargo.lock", b"[[a]]\n".repeat((1 << 20) / 7 - 1)),
    ] {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(path).parent().unwrap()).unwrap();
        fs::write(place.path().join(path), &content).unwrap();
        let scanned = host.scan("spdx", &subject(), tree(place.path()));
        assert!(scanned.is_ok(), "{path} with {} bytes: {scanned:?}", content.len());
    }
}

#[test]
fn a_policy_can_take_the_image_away() {
    let policy = Policy::parse("[plugins.sbom-spdx]\nallow = []\n").unwrap();
    let host = host(HostOptions { policy, ..HostOptions::default() });
    let error = host.scan("spdx", &subject(), tree(image().path())).unwrap_err().to_string();
    assert!(error.contains("wants `finished-rootfs`") && error.contains("[plugins.sbom-spdx]"), "{error}");
}

#[test]
fn unknown_scanners_and_options_are_named() {
    let host = host(HostOptions::default());
    let error = host.scan("syft", &subject(), tree(image().path())).unwrap_err();
    assert!(matches!(error, ScanError::Unknown { .. }));
    assert_eq!(error.to_string(), "there is no scanner `syft`; there are sbom-spdx");
    assert!(host.scan("tags-git", &subject(), tree(image().path())).is_err());
    let options = vec![KeyValue { key: "depth".into(), value: "9".into() }];
    let error = host.scan("spdx", &Subject { options, ..subject() }, tree(image().path())).unwrap_err();
    assert!(
        matches!(&error, ScanError::Call(ApplyError::Invalid(found)) if found.message.contains("`depth`")),
        "{error}"
    );
}
