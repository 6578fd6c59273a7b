//! Databases of distributions.

use super::*;

fn package(place: &Place, name: &str, control: &str) -> String {
    place.write(&format!("{name}/DEBIAN/control"), control);
    place.run("dpkg-deb", &["--build", name, &format!("{name}.deb")]);
    format!("{name}.deb")
}

#[test]
fn dpkg_tells_of_what_is_installed_and_not_of_what_was() {
    if !has("dpkg") {
        return;
    }
    let place = Place::new();
    place.write("root/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    std::fs::create_dir_all(place.path("root/var/lib/dpkg/info")).unwrap();
    std::fs::create_dir_all(place.path("root/var/lib/dpkg/updates")).unwrap();
    place.write("root/var/lib/dpkg/status", "");
    let common = "Maintainer: Some One <one@example.org>\nDescription: a test\n with more lines\n";
    let library = package(
        &place,
        "libx1",
        &format!("Package: libx1\nVersion: 1:2.0+dfsg-3\nArchitecture: all\nSource: x (1:2.0-1)\n{common}"),
    );
    let gone = package(&place, "gone", &format!("Package: gone\nVersion: 1\nArchitecture: all\n{common}"));
    place.write("gone2/etc/kept.conf", "kept");
    place.write("gone2/DEBIAN/conffiles", "/etc/kept.conf\n");
    let kept = package(&place, "gone2", &format!("Package: gone2\nVersion: 1\nArchitecture: all\n{common}"));
    let root = format!("--root={}", place.path("root").display());
    let dpkg = |arguments: &[&str]| {
        let base = [&root, "--force-not-root", "--force-script-chrootless", "--force-bad-path", "--log=/dev/null"];
        place.run("dpkg", &[&base[..], arguments].concat());
    };
    dpkg(&["--install", &library, &gone, &kept]);
    dpkg(&["--purge", "gone"]);
    dpkg(&["--remove", "gone2"]);
    let status = std::fs::read_to_string(place.path("root/var/lib/dpkg/status")).unwrap();
    assert!(status.contains("deinstall ok config-files"), "{status}");
    let tree = place.tree("root");
    let libx1 = "pkg:deb/debian/libx1@1:2.0%2Bdfsg-3?arch=all&distro=debian-12&upstream=x%401:2.0-1";
    assert_eq!(purls(&tree), [libx1, "pkg:generic/debian@12"]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, libx1, "supplier"), "Person: Some One (one@example.org)");
    assert_eq!(member(&document, libx1, "versionInfo"), "1:2.0+dfsg-3");
    assert_eq!(member(&document, libx1, "sourceInfo"), "found in /var/lib/dpkg/status");
}

#[test]
fn distroless_images_have_a_file_for_each_package() {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/usr/lib/os-release", b"ID=debian\nVERSION_ID=12\n")
        .add_symlink(b"/etc/os-release", b"../usr/lib/os-release")
        .add_file(b"/var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n")
        .add_file(b"/var/lib/dpkg/status.d/tzdata.md5sums", b"00  usr/share/x\n");
    let tzdata = "pkg:deb/debian/tzdata@2024a-0%2Bdeb12u1?arch=all&distro=debian-12";
    assert_eq!(purls(&tree), [tzdata, "pkg:generic/debian@12"]);
}

/// Two packages of Alpine 3.19, as `apk` writes them.
const INSTALLED: &str = "C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:alpine-baselayout
V:3.4.3-r2
A:x86_64
S:8911
I:331776
T:Alpine base dir structure and init scripts
U:https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout
L:GPL-2.0-only
o:alpine-baselayout
m:Natanael Copa <ncopa@alpinelinux.org>
t:1696604728
D:alpine-baselayout-data=3.4.3-r2 /bin/sh
F:dev
F:etc
R:motd
a:0:0:755
Z:Q1y7tmrZAlhYBVrJR19WNFr0S6OJM=

P:libssl3
V:3.1.4-r5
A:x86_64
L:Apache-2.0
o:openssl
m:Ariadne Conill <ariadne@dereferenced.org>
F:lib
R:libssl.so.3

";

#[test]
fn apk_tells_of_license_and_origin() {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/etc/os-release", b"ID=alpine\nVERSION_ID=3.19.1\n")
        .add_file(b"/lib/apk/db/installed", INSTALLED.as_bytes());
    let base = "pkg:apk/alpine/alpine-baselayout@3.4.3-r2?arch=x86_64&distro=alpine-3.19.1";
    let ssl = "pkg:apk/alpine/libssl3@3.1.4-r5?arch=x86_64&distro=alpine-3.19.1&upstream=openssl";
    assert_eq!(purls(&tree), [base, ssl, "pkg:generic/alpine@3.19.1"]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, ssl, "licenseDeclared"), "Apache-2.0");
    assert_eq!(
        member(&document, base, "homepage"),
        "https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout"
    );
}

/// Builds two RPM packages; answers their files.
fn rpms(place: &Place) -> Vec<String> {
    let mut files = Vec::new();
    // The second has a header that no page of a database holds.
    for (name, epoch, count) in [("small", "", 1), ("large", "Epoch: 3\n", 3000)] {
        let list: String = (0..count).map(|number| format!("/opt/{name}/file-with-a-long-name-{number}\n")).collect();
        let make = format!(
            "mkdir -p %{{buildroot}}/opt/{name}; cd %{{buildroot}}/opt/{name}; for n in $(seq 0 {}); do : > file-with-a-long-name-$n; done",
            count - 1
        );
        place.write(
            &format!("{name}.spec"),
            format!(
                "Name: {name}\nVersion: 1.2\nRelease: 3.fc40\n{epoch}Summary: s\nLicense: MIT\nVendor: Some Project\n\
                 URL: https://x.example/\nBuildArch: noarch\n%description\nd\n%install\n{make}\n%files\n{list}"
            ),
        );
        let top = format!("_topdir {}", place.path("top").display());
        place.run("rpmbuild", &["-bb", "--quiet", "-D", &top, &format!("{name}.spec")]);
        files.push(format!("top/RPMS/noarch/{name}-1.2-3.fc40.noarch.rpm"));
    }
    files
}

const RPM_PURLS: [&str; 3] = [
    "pkg:generic/fedora@40",
    "pkg:rpm/fedora/large@1.2-3.fc40?arch=noarch&distro=fedora-40&epoch=3&upstream=large-1.2-3.fc40.src.rpm",
    "pkg:rpm/fedora/small@1.2-3.fc40?arch=noarch&distro=fedora-40&upstream=small-1.2-3.fc40.src.rpm",
];

fn rpm(place: &Place, backend: &str, arguments: &[&str]) {
    let (root, backend) = (format!("--root={}", place.path("root").display()), format!("_db_backend {backend}"));
    let base = [root.as_str(), "--dbpath=/var/lib/rpm", "-D", &backend];
    place.run("rpm", &[&base[..], arguments].concat());
}

/// The tree with a database and nothing else of RPM's.
fn with_database(place: &Place, name: &str) -> MemoryTree {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/etc/os-release", b"ID=fedora\nVERSION_ID=40\n");
    for suffix in ["", "-wal"] {
        if let Ok(content) = std::fs::read(place.path(&format!("root/var/lib/rpm/{name}{suffix}"))) {
            tree.add_file(format!("/var/lib/rpm/{name}{suffix}").as_bytes(), &content);
        }
    }
    tree
}

#[test]
fn rpm_databases_are_read_in_each_of_their_forms() {
    if !has("rpmbuild") || !has("rpm") || !has("db5.3_load") || !has("sqlite3") {
        return;
    }
    let place = Place::new();
    let files = rpms(&place);
    let install: Vec<&str> =
        ["-i", "--nodeps", "--justdb"].into_iter().chain(files.iter().map(String::as_str)).collect();
    rpm(&place, "sqlite", &install);
    let tree = with_database(&place, "rpmdb.sqlite");
    assert_eq!(purls(&tree), RPM_PURLS);
    let (document, _) = scan(&tree);
    for (key, value) in [
        ("versionInfo", "3:1.2-3.fc40"),
        ("licenseDeclared", "MIT"),
        ("supplier", "Organization: Some Project"),
        ("homepage", "https://x.example/"),
        ("sourceInfo", "found in /var/lib/rpm/rpmdb.sqlite"),
    ] {
        assert_eq!(member(&document, RPM_PURLS[1], key), value);
    }

    // Berkeley DB, which Debian's rpm only reads: its own tool writes the same headers.
    let database = place.path("root/var/lib/rpm/rpmdb.sqlite").display().to_string();
    let rows = place.run("sqlite3", &[&database, "select hnum, hex(blob) from Packages order by hnum"]);
    let mut dump = "VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n 00000000\n 02000000\n".to_owned();
    for (number, blob) in rows.lines().filter_map(|row| row.split_once('|')) {
        dump += &format!(" {:02x}000000\n {}\n", number.parse::<u8>().unwrap(), blob.to_lowercase());
    }
    place.write("dump", dump + "DATA=END\n");
    let packages = place.path("root/var/lib/rpm/Packages").display().to_string();
    place.run("db5.3_load", &["-f", "dump", &packages]);
    assert_eq!(purls(&with_database(&place, "Packages")), RPM_PURLS);

    // RPM's own form, which Debian's rpm was built without: the same headers as rpmpkg.c lays them out, behind a slot of a
    // package that was removed.
    let bytes = |hexadecimal: &str| -> Vec<u8> {
        let digits = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut slots = [b"RpmP".to_vec(), words(&[0, 7, 1, 9, 0, 0, 0]), b"Slot".to_vec(), words(&[0, 0, 0])].concat();
    let mut blobs = Vec::new();
    for (number, blob) in rows.lines().filter_map(|row| row.split_once('|')) {
        let (number, blob) = (number.parse().unwrap(), bytes(blob));
        let block = (4096 + blobs.len() as u32) / 16;
        blobs.extend([b"BlbS".to_vec(), words(&[number, 7, blob.len() as u32]), blob].concat());
        blobs.extend([words(&[0, blobs.len() as u32]), b"BlbE".to_vec()].concat());
        blobs.resize(blobs.len().next_multiple_of(16), 0);
        slots.extend([b"Slot".to_vec(), words(&[number, block, blobs.len() as u32 / 16])].concat());
    }
    while slots.len() < 4096 {
        slots.extend([b"Slot".to_vec(), words(&[0, 0, 0])].concat());
    }
    place.write("root/var/lib/rpm/Packages.db", [slots, blobs].concat());
    assert_eq!(purls(&with_database(&place, "Packages.db")), RPM_PURLS);
}

#[test]
fn what_is_only_in_an_sqlite_log_counts_once_it_was_committed() {
    if !has("sqlite3") {
        return;
    }
    let place = Place::new();
    std::fs::create_dir_all(place.path("root/var/lib/rpm")).unwrap();
    let header = |name: &str| {
        let data = [name, "1", "2", ""].join("\0");
        let offsets = [0, name.len() + 1, name.len() + 3];
        let entries: String =
            (0..3).map(|number| format!("{:08x}00000006{:08x}00000001", 1000 + number, offsets[number])).collect();
        let data: String = data.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{:08x}{:08x}{entries}{data}", 3, data.len() / 2)
    };
    let insert = |name: &str| format!("insert into Packages (blob) values (x'{}');", header(name));
    let mut table = String::from(
        "pragma journal_mode=wal; pragma wal_autocheckpoint=0; \
         create table Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);",
    );
    // More rows than a page has, so that there is a tree.
    (0..300).for_each(|number| table += &insert(&format!("p{number:03}")));
    // The log stays where it is when nobody closes the database.
    let database = "root/var/lib/rpm/rpmdb.sqlite";
    place.write("script", format!("{table}\n.system kill -9 $PPID\n"));
    let script = format!("sqlite3 {database} < script");
    let status = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert!(!status.status.success());
    let tree = with_database(&place, "rpmdb.sqlite");
    assert!(tree.entry(b"/var/lib/rpm/rpmdb.sqlite-wal").unwrap().content.len() > 100_000);
    let found = purls(&tree);
    assert_eq!(found.len(), 301);
    assert!(found.contains(&"pkg:rpm/fedora/p299@1-2?distro=fedora-40".to_owned()), "{found:?}");
    // A transaction that was cut short never was.
    let log = tree.entry(b"/var/lib/rpm/rpmdb.sqlite-wal").unwrap().content;
    let mut cut = with_database(&place, "rpmdb.sqlite");
    cut.add_file(b"/var/lib/rpm/rpmdb.sqlite-wal", &log[..log.len() - 1]);
    assert_eq!(purls(&cut).len(), 300);
}
