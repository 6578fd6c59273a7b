//! What compilers and package managers of languages leave behind.

use std::io::Write;

use super::*;

#[test]
fn go_programs_tell_of_their_modules() {
    if !has("go") {
        return;
    }
    let place = Place::new();
    place.write("dep/go.mod", "module Example.com/Some/Dep\n");
    place.write("dep/dep.go", "package dep\n\nvar X = 1\n");
    place.write(
        "app/go.mod",
        "module example.com/app\n\nrequire Example.com/Some/Dep v1.2.3\n\nreplace Example.com/Some/Dep => ../dep\n",
    );
    place.write(
        "app/main.go",
        "package main\n\nimport dep \"Example.com/Some/Dep\"\n\nfunc main() { println(dep.X) }\n",
    );
    std::fs::create_dir_all(place.path("root/usr/bin")).unwrap();
    let script = "cd app && CGO_ENABLED=0 GOFLAGS=-mod=mod GOPROXY=off GOCACHE=$PWD/../cache go build -ldflags=-s -o ../root/usr/bin/app .";
    place.run("sh", &["-c", script]);
    let version = place.run("go", &["env", "GOVERSION"]);
    let stdlib = format!("pkg:golang/stdlib@{}", version.trim().trim_start_matches("go"));
    let tree = place.tree("root");
    assert_eq!(purls(&tree), ["pkg:golang/example.com/app", "pkg:golang/example.com/some/dep@v1.2.3", &stdlib]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, "pkg:golang/example.com/app", "primaryPackagePurpose"), "APPLICATION");
    assert_eq!(member(&document, "pkg:golang/example.com/some/dep@v1.2.3", "name"), "Example.com/Some/Dep");
}

/// A section as the linker writes it.
fn build_info(flags: u8, modules: &str) -> Vec<u8> {
    let text = |bytes: &[u8]| {
        let mut text = Vec::new();
        let mut length = bytes.len();
        while length >= 0x80 {
            text.push(length as u8 | 0x80);
            length >>= 7;
        }
        text.push(length as u8);
        [text, bytes.to_vec()].concat()
    };
    let marked = [&[0; 16][..], modules.as_bytes(), &[0; 16]].concat();
    [b"\xff Go buildinf:\x08", &[flags][..], &[0; 16], &text(b"go1.22.1 X:boringcrypto"), &text(&marked)].concat()
}

#[test]
fn a_go_module_that_was_replaced_is_the_one_that_is_there() {
    let lines = "path\tx.example/app\nmod\tx.example/app\t(devel)\t\ndep\ta.example/b\tv1.0.0\th1:x=\n=>\tfork.example/b\tv1.0.1\th1:y=\nbuild\t-tags=x\n";
    let found = crate::binary::go::packages(&build_info(2, lines)).unwrap();
    let found: Vec<String> = found.iter().map(|package| package.purl.to_string()).collect();
    let expected = ["pkg:golang/stdlib@1.22.1", "pkg:golang/x.example/app", "pkg:golang/fork.example/b@v1.0.1"];
    assert_eq!(found, expected);
    assert!(crate::binary::go::packages(&build_info(0, lines)).is_err());
}

#[test]
fn rust_programs_tell_of_their_crates_if_they_were_made_to() {
    if !has("objcopy") {
        return;
    }
    let place = Place::new();
    let list = r#"{"packages":[
        {"name":"app","version":"0.1.0","source":"local","dependencies":[1,2],"root":true},
        {"name":"cc","version":"1.0.83","source":"crates.io","kind":"build"},
        {"name":"libc","version":"0.2.150","source":"crates.io"}]}"#;
    let mut section = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    section.write_all(list.as_bytes()).unwrap();
    place.write("section", section.finish().unwrap());
    std::fs::create_dir_all(place.path("root/bin")).unwrap();
    let program = std::env::current_exe().unwrap().display().to_string();
    place.run("objcopy", &["--strip-all", "--add-section=.dep-v0=section", &program, "root/bin/app"]);
    let tree = place.tree("root");
    assert_eq!(purls(&tree), ["pkg:cargo/app@0.1.0", "pkg:cargo/libc@0.2.150"]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, "pkg:cargo/libc@0.2.150", "sourceInfo"), "found in /bin/app");
}

#[test]
fn npm_packages_are_those_of_node_modules() {
    if !has("npm") {
        return;
    }
    let place = Place::new();
    place.write("b/package.json", r#"{"name":"@scope/b","version":"2.0.0-rc.1+5","license":{"type":"MIT"}}"#);
    place.write("b/dist/package.json", r#"{"type":"module"}"#);
    place.write(
        "a/package.json",
        r#"{"name":"a","version":"1.0.0","license":"SEE LICENSE IN x","dependencies":{"@scope/b":"2.0.0-rc.1+5"}}"#,
    );
    place.run("npm", &["pack", "./a", "./b"]);
    place.write("root/srv/package.json", r#"{"name":"app","version":"9.9.9"}"#);
    let install = "cd root/srv && npm install --offline --no-audit --no-fund ../../scope-b-*.tgz ../../a-1.0.0.tgz";
    place.run("sh", &["-c", install]);
    let tree = place.tree("root");
    let (a, b) = ("pkg:npm/a@1.0.0", "pkg:npm/%40scope/b@2.0.0-rc.1%2B5");
    assert_eq!(purls(&tree), [b, a]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, b, "licenseDeclared"), "MIT");
    assert_eq!(member(&document, a, "licenseDeclared"), "NOASSERTION");
    assert_eq!(member(&document, a, "licenseComments"), "declared as: SEE LICENSE IN x");
}

#[test]
fn python_distributions_are_what_pip_installed() {
    if !has("python3") {
        return;
    }
    let place = Place::new();
    place.write(
        "wheel.py",
        "import zipfile\n\
         with zipfile.ZipFile('Some_Thing-1.5-py3-none-any.whl', 'w') as z:\n\
         \x20   d = 'Some_Thing-1.5.dist-info/'\n\
         \x20   z.writestr('some_thing.py', 'x = 1\\n')\n\
         \x20   z.writestr(d + 'METADATA', 'Metadata-Version: 2.4\\nName: Some_Thing\\nVersion: 1.5\\nLicense-Expression: BSD-3-Clause\\n\\nVersion: no\\n')\n\
         \x20   z.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         \x20   z.writestr(d + 'RECORD', 'some_thing.py,,\\n' + d + 'METADATA,,\\n' + d + 'WHEEL,,\\n' + d + 'RECORD,,\\n')\n",
    );
    place.run("python3", &["wheel.py"]);
    let arguments =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--target", "root/usr/lib"];
    place.run("python3", &[&arguments[..], &["Some_Thing-1.5-py3-none-any.whl"]].concat());
    place.write("root/usr/lib/old-2.egg-info", "Metadata-Version: 1.1\nName: old\nVersion: 2\nLicense: UNKNOWN\n");
    place.write("root/usr/lib/older-3.egg-info/PKG-INFO", "Metadata-Version: 1.1\nName: older\nVersion: 3\n");
    let tree = place.tree("root");
    assert_eq!(purls(&tree), ["pkg:pypi/old@2", "pkg:pypi/older@3", "pkg:pypi/some-thing@1.5"]);
    let (document, _) = scan(&tree);
    assert_eq!(member(&document, "pkg:pypi/some-thing@1.5", "licenseDeclared"), "BSD-3-Clause");
    assert_eq!(member(&document, "pkg:pypi/some-thing@1.5", "name"), "Some_Thing");
}

#[test]
fn lock_files_of_cargo_say_where_crates_are_from() {
    let own = include_str!("../../../Cargo.lock");
    let mut tree = MemoryTree::default();
    tree.add_file(b"/src/Cargo.lock", own.as_bytes());
    assert_eq!(purls(&tree).len(), own.matches("[[package]]").count());
    let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
                source = \"git+https://x.example/a.git?branch=main#0123456789abcdef0123456789abcdef01234567\"\n\n\
                [[package]]\nname = \"b\"\nversion = \"2.0.0\"\nsource = \"registry+https://r.example/index\"\n\
                checksum = \"ABCD000000000000000000000000000000000000000000000000000000000000\"\n";
    let mut tree = MemoryTree::default();
    tree.add_file(b"/src/Cargo.lock", lock.as_bytes());
    let a = "pkg:cargo/a@1.0.0?vcs_url=git%2Bhttps:%2F%2Fx.example%2Fa.git%400123456789abcdef0123456789abcdef01234567";
    let b = "pkg:cargo/b@2.0.0?repository_url=https:%2F%2Fr.example%2Findex";
    assert_eq!(purls(&tree), [a, b]);
    let (document, _) = scan(&tree);
    let of_b = packages(&document).into_iter().find(|package| purl(package).as_deref() == Some(b)).unwrap();
    let Some(Value::Array(sums)) = of_b.get("checksums") else { panic!() };
    assert!(sums[0].get("checksumValue").and_then(Value::as_str).unwrap().starts_with("abcd0000"));
}
