//! Published faults of cache keys, of Kaniko and BuildKit: two builds that differ, and whose keys did not. In each pair the second build
//! runs on the store of the first one, and must give what it gives on an empty store.

use std::fs;

use cofferdam_tests::{Finished, Site, binary};

/// One of the two builds.
struct Variant<'v> {
    dockerfile: &'v str,
    /// Paths and contents; a content `-> TARGET` is a link, a path that ends with a slash an empty directory.
    files: &'v [(&'v str, &'v str)],
    arguments: &'v [&'v str],
}

const fn variant<'v>(dockerfile: &'v str, files: &'v [(&'v str, &'v str)], arguments: &'v [&'v str]) -> Variant<'v> {
    Variant { dockerfile, files, arguments }
}

struct Pairs {
    site: Site,
}

impl Pairs {
    fn new() -> Option<Self> {
        Some(Self { site: Site::with_base("alpine")? })
    }

    /// With a store of this name.
    fn build(&self, variant: &Variant<'_>, store: &str) -> Finished {
        let context = self.site.context();
        fs::remove_dir_all(&context).expect("ours");
        fs::create_dir(&context).expect("ours");
        for (path, content) in variant.files {
            match (path.strip_suffix('/'), content.strip_prefix("-> ")) {
                (Some(directory), _) => fs::create_dir_all(context.join(directory)).expect("ours"),
                (None, Some(target)) => {
                    fs::create_dir_all(context.join(path).parent().expect("in the context")).expect("ours");
                    self.site.link(path, target);
                }
                (None, None) => drop(self.site.file(path, content)),
            }
        }
        self.site.dockerfile(variant.dockerfile);
        let store = self.site.path().join(store);
        self.site.program_of(binary(), &store, variant.arguments).run().success()
    }

    /// With a store that has nothing.
    fn build_anew(&self, variant: &Variant<'_>, store: &str) -> Finished {
        let _ = fs::remove_dir_all(self.site.path().join(store));
        self.build(variant, store)
    }

    /// Both ways, as either may have been there first.
    #[track_caller]
    fn differ(&self, one: &Variant<'_>, other: &Variant<'_>) {
        let fresh = [one, other].map(|variant| self.build_anew(variant, "fresh").digest());
        assert_ne!(fresh[0], fresh[1], "the builds do not differ");
        let _ = fs::remove_dir_all(self.site.path().join("shared"));
        for (variant, digest) in [(one, &fresh[0]), (other, &fresh[1]), (one, &fresh[0])] {
            let built = self.build(variant, "shared");
            assert_eq!(&built.digest(), digest, "{}\n{}", variant.dockerfile, built.stderr);
        }
    }
}

#[test]
fn values_that_look_alike_when_they_are_joined() {
    let Some(pairs) = Pairs::new() else { return };
    let text = "FROM base\nARG A\nARG B\nRUN echo \"$A|$B\" > /out\n";
    for (one, other) in [
        (["A=1-B=2", "B="], ["A=1", "B=2"]),
        (["A=1 B=2", "B="], ["A=1", "B=2"]),
        (["A=1\nB=2", "B="], ["A=1", "B=2"]),
        (["A=", "B=12"], ["A=1", "B=2"]),
    ] {
        let [one, other] = [one, other].map(|[a, b]| ["--build-arg", a, "--build-arg", b]);
        pairs.differ(&variant(text, &[], &one), &variant(text, &[], &other));
    }
    let files = [("a b", "1"), ("a", "2"), ("b", "3")];
    pairs.differ(
        &variant("FROM scratch\nCOPY [\"a b\", \"/x/\"]\n", &files, &[]),
        &variant("FROM scratch\nCOPY [\"a\", \"b\", \"/x/\"]\n", &files, &[]),
    );
    pairs.differ(
        &variant("FROM base\nENV A=\"1 B=2\"\nRUN echo \"$A|$B\" > /out\n", &[], &[]),
        &variant("FROM base\nENV A=1 B=2\nRUN echo \"$A|$B\" > /out\n", &[], &[]),
    );
    pairs.differ(
        &variant("FROM base\nRUN [\"touch\", \"/a b\"]\n", &[], &[]),
        &variant("FROM base\nRUN [\"touch\", \"/a\", \"b\"]\n", &[], &[]),
    );
}

#[test]
fn bodies_of_here_documents() {
    let Some(pairs) = Pairs::new() else { return };
    for text in [
        "FROM base\nCOPY <<EOF /out\nBODY\nEOF\n",
        "FROM base\nADD <<EOF /out\nBODY\nEOF\n",
        "FROM base\nRUN <<EOF\necho BODY > /out\nEOF\n",
        "FROM base\nRUN cat <<EOF > /out\nBODY\nEOF\n",
        "FROM base\nRUN <<EOF cat > /out\nBODY\nEOF\n",
    ] {
        let [one, other] = ["one", "two"].map(|body| text.replace("BODY", body));
        pairs.differ(&variant(&one, &[], &[]), &variant(&other, &[], &[]));
    }
    // Quoted, it is not expanded; and a variable in it counts.
    let text = "FROM base\nARG V=1\nCOPY <<EOF /out\n$V\nEOF\n";
    pairs.differ(&variant(text, &[], &[]), &variant(&text.replace("<<EOF", "<<'EOF'"), &[], &[]));
    pairs.differ(&variant(text, &[], &[]), &variant(text, &[], &["--build-arg", "V=2"]));
    // Of two documents, which file has which.
    pairs.differ(
        &variant("FROM base\nCOPY <<a <<b /d/\nx\na\ny\nb\n", &[], &[]),
        &variant("FROM base\nCOPY <<a <<b /d/\ny\na\nx\nb\n", &[], &[]),
    );
}

#[test]
fn words_with_variables() {
    let Some(pairs) = Pairs::new() else { return };
    let files = [("one", "same"), ("two", "same")];
    for text in [
        "FROM base\nARG V\nCOPY $V /d/\n",
        "FROM base\nARG V\nCOPY one /$V/\n",
        "FROM base\nARG V\nADD one /$V\n",
        "FROM base\nARG V\nWORKDIR /$V\nCOPY one .\n",
        "FROM base\nARG V\nENV E=$V\nCOPY one /$E\n",
        "FROM base AS one\nRUN echo 1 > /f\nFROM base AS two\nRUN echo 2 > /f\nFROM base\nARG V\nCOPY --from=one /f /$V\n",
        "ARG V\nFROM base AS one\nRUN echo 1 > /f\nFROM base AS two\nRUN echo 2 > /f\nFROM $V\nRUN cp /f /g\n",
        "FROM base\nARG V\nRUN --mount=type=bind,source=$V,target=/m echo /m > /out; ls / >> /out; echo \"$V\" >> /out\n",
    ] {
        let values = ["one", "two"].map(|value| format!("V={value}"));
        let [one, other] = values.each_ref().map(|value| ["--build-arg", value.as_str()]);
        pairs.differ(&variant(text, &files, &one), &variant(text, &files, &other));
    }
}

#[test]
fn platforms() {
    let Some(pairs) = Pairs::new() else { return };
    for text in [
        "FROM scratch\nCOPY file /file\n",
        "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n",
        "FROM scratch AS one\nCOPY file /file\nFROM one\nARG TARGETPLATFORM\nCOPY file /$TARGETPLATFORM/file\n",
    ] {
        let files = [("file", "x")];
        pairs.differ(
            &variant(text, &files, &["--platform", "linux/amd64"]),
            &variant(text, &files, &["--platform", "linux/arm64"]),
        );
    }
}

#[test]
fn directories_whose_names_and_contents_join_to_the_same() {
    let Some(pairs) = Pairs::new() else { return };
    let pair = |one: &[(&str, &str)], other: &[(&str, &str)]| {
        for text in [
            "FROM scratch\nCOPY d /d\n",
            "FROM scratch\nCOPY . /\n",
            "FROM base\nRUN --mount=type=bind,target=/m cp -r /m/d /d\n",
        ] {
            pairs.differ(&variant(text, one, &[]), &variant(text, other, &[]));
        }
    };
    pair(&[("d/ab", "c")], &[("d/a", "bc")]);
    pair(&[("d/a", "x"), ("d/b", "y")], &[("d/a", "xy"), ("d/b", "")]);
    pair(&[("d/a", ""), ("d/b", "x")], &[("d/a", "x"), ("d/b", "")]);
    pair(&[("d/one/f", "x"), ("d/two/", "")], &[("d/one/", ""), ("d/two/f", "x")]);
    pair(&[("d/a/b/f", "x")], &[("d/a/b", ""), ("d/f", "x")]);
    pair(&[("d/f", "target")], &[("d/f", "-> target")]);
    pair(&[("d/f", "")], &[("d/f/", "")]);
}

#[test]
fn what_a_stage_below_says() {
    let Some(pairs) = Pairs::new() else { return };
    for text in [
        "FROM base AS below\nENV V=VALUE\nFROM below\nRUN echo $V > /out\n",
        "FROM base AS below\nENV V=VALUE\nFROM below AS middle\nFROM middle\nCOPY file /$V\n",
        "FROM base AS below\nWORKDIR /VALUE\nFROM below\nRUN pwd > /out\n",
        "FROM base AS below\nSHELL [\"/bin/sh\", \"-c\", \"echo VALUE > /out; true\"]\nFROM below\nRUN something\n",
        "FROM base AS below\nARG V=VALUE\nENV E=$V\nFROM below\nRUN echo $E > /out\n",
    ] {
        let [one, other] = ["one", "two"].map(|value| text.replace("VALUE", value));
        let files = [("file", "x")];
        pairs.differ(&variant(&one, &files, &[]), &variant(&other, &files, &[]));
    }
}

#[test]
fn stages_that_are_a_from_alone() {
    let Some(pairs) = Pairs::new() else { return };
    let directories = [("one", "1"), ("two", "2")].map(|(name, content)| {
        let directory = pairs.site.path().join(name);
        fs::create_dir(&directory).expect("ours");
        fs::write(directory.join("file"), content).expect("ours");
        format!("{name}={}", directory.display())
    });
    let contexts = ["--build-context", &directories[0], "--build-context", &directories[1]];
    for text in [
        "FROM WHICH AS parts\nFROM base\nCOPY --from=parts /file /file\n",
        "FROM WHICH AS parts\nFROM parts AS more\nFROM base\nRUN --mount=from=more,target=/m cp /m/file /out\n",
        "FROM WHICH AS parts\nFROM parts\nCOPY file /more\n",
        "FROM base\nCOPY --from=WHICH /file /file\n",
    ] {
        let [one, other] = ["one", "two"].map(|name| text.replace("WHICH", name));
        let files = [("file", "x")];
        pairs.differ(&variant(&one, &files, &contexts), &variant(&other, &files, &contexts));
    }
}

#[test]
fn links_patterns_and_what_is_left_out() {
    let Some(pairs) = Pairs::new() else { return };
    let copy = "FROM scratch\nCOPY link /file\n";
    pairs.differ(
        &variant(copy, &[("real", "one"), ("link", "-> real")], &[]),
        &variant(copy, &[("real", "two"), ("link", "-> real")], &[]),
    );
    let pattern = "FROM scratch\nCOPY *.txt /d/\n";
    pairs.differ(&variant(pattern, &[("a.txt", "x")], &[]), &variant(pattern, &[("a.txt", "x"), ("b.txt", "x")], &[]));
    pairs.differ(&variant(pattern, &[("a.txt", "x")], &[]), &variant(pattern, &[("b.txt", "x")], &[]));
    let all = "FROM scratch\nCOPY d /d\n";
    let files = [("d/a", "x"), ("d/b", "y")];
    let less = [("d/a", "x"), ("d/b", "y"), (".dockerignore", "d/b\n")];
    pairs.differ(&variant(all, &files, &[]), &variant(all, &less, &[]));
    pairs.differ(&variant(all, &files, &[]), &variant("FROM scratch\nCOPY --exclude=b d /d\n", &files, &[]));
    pairs.differ(&variant(all, &files, &[]), &variant("FROM scratch\nCOPY --chown=1:2 d /d\n", &files, &[]));
    pairs.differ(&variant(all, &files, &[]), &variant("FROM scratch\nCOPY --chmod=700 d /d\n", &files, &[]));
}

#[test]
fn secrets_are_no_part_of_a_key() {
    let Some(pairs) = Pairs::new() else { return };
    let secret = pairs.site.path().join("secret");
    let argument = format!("id=s,src={}", secret.display());
    let text =
        "FROM base\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /dev/null; head -c 8 /dev/urandom > /out\n";
    let digests = ["one", "another"].map(|content| {
        fs::write(&secret, content).expect("ours");
        pairs.build(&variant(text, &[], &["--secret", &argument]), "shared").digest()
    });
    assert_eq!(digests[0], digests[1]);
}
