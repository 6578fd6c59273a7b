//! `RUN --mount`: what a command sees there, and that none of it is in the image.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
};

use cofferdam_tests::{Environment, Finished, Image, Site, run};

/// How commands are run: with mounts, and without; in a runner environment, as it has them.
fn executors() -> &'static [&'static str] {
    if Environment::under_test().is_some() { &["auto"] } else { &["auto", "chroot", "emulated"] }
}

fn image(site: &Site, executor: &str, arguments: &[&str]) -> Image {
    site.image(&[&["--no-cache", "--executor", executor], arguments].concat())
}

#[test]
fn binds_show_trees_and_forget_what_is_written() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("src/file", "context").file("src/ignored", "x").file(".dockerignore", "src/ignored");
    site.file("a[b", "named by its characters");
    site.dockerfile(
        "FROM base AS tools
RUN echo tool > /tool && mkdir /d && touch /d/x && chown 5:6 /d/x
FROM base
ARG PLACE=bound
WORKDIR /work
RUN --mount=type=bind,source=src,target=/mnt/$PLACE \\
    ls /mnt/bound > /names; cat /mnt/bound/file > /read; echo x > /mnt/bound/file || echo refused > /refused
RUN --mount=source=src,target=/mnt,rw echo changed > /mnt/file && echo new > /mnt/new && cat /mnt/* > /written
RUN --mount=source=src,target=/mnt cat /mnt/* > /again
RUN --mount=from=tools,target=here,rw cat here/tool > /tool && stat -c %u:%g here/d/x > /owner && touch here/z
RUN --mount=from=tools,source=/tool,dst=/one --mount=source=a[b,target=/two cat /one /two > /files
RUN ls -d /mnt /work/here /one /two 2>/dev/null > /left || true
",
    );
    for executor in executors() {
        let image = image(&site, executor, &[]);
        assert_eq!(
            (image.content("/names"), image.content("/read")),
            ("file\n".into(), "context".into()),
            "{executor}"
        );
        assert_eq!(image.content("/refused"), "refused\n", "{executor}");
        assert_eq!(image.content("/written"), "changed\nnew\n", "{executor}");
        assert_eq!(image.content("/again"), "context", "{executor}");
        assert_eq!((image.content("/tool"), image.content("/owner")), ("tool\n".into(), "5:6\n".into()), "{executor}");
        assert_eq!(image.content("/files"), "tool\nnamed by its characters", "{executor}");
        // Alpine has /mnt itself.
        assert_eq!(image.content("/left"), "/mnt\n", "{executor}");
    }
    let context = std::fs::read_to_string(site.context().join("src/file")).expect("there");
    assert_eq!(context, "context", "nothing is written to the context");
}

#[test]
fn what_is_bound_is_in_the_key_and_what_is_not_is_not() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("src/file", "1").file("other", "1");
    site.dockerfile("FROM base\nRUN --mount=source=src,target=/mnt cat /mnt/file > /read\n");
    let first = site.build(&[]).success().digest();
    site.file("other", "2");
    assert_eq!(site.build(&[]).success().digest(), first);
    site.file("src/file", "2");
    assert_ne!(site.build(&[]).success().digest(), first);
}

#[test]
fn caches_stay_for_later_builds() {
    const DOCKERFILE: &str = "FROM base AS seed
RUN mkdir /s && echo seed > /s/seed
FROM base
RUN --mount=type=cache,target=/cache,uid=33,gid=44,mode=0750 \\
    stat -c '%u:%g %a' /cache > /looks; echo run >> /cache/log; chown 7 /cache/log; cat /cache/log > /log
RUN --mount=type=cache,target=/other,id=/cache,uid=33,gid=44,mode=0750,readonly \\
    stat -c %u /other/log > /owner; touch /other/x || echo refused > /refused
RUN --mount=type=cache,target=/cache ls /cache > /unlike
RUN --mount=type=cache,target=/seeded,from=seed,source=s cat /seeded/seed > /seed; rm /seeded/seed; touch /seeded/seed
";
    for executor in executors() {
        // Executors for which caches are the same on the disk have the same caches.
        let Some(site) = Site::with_base("alpine") else { return };
        site.dockerfile(DOCKERFILE);
        for runs in ["run\n", "run\nrun\n"] {
            let image = image(&site, executor, &[]);
            assert_eq!(image.content("/looks"), "33:44 750\n", "{executor}");
            assert_eq!((image.content("/log").as_str(), image.content("/owner").as_str()), (runs, "7\n"), "{executor}");
            assert_eq!(image.content("/refused"), "refused\n", "{executor}");
            assert_eq!(image.content("/unlike"), "", "another owner and mode is another cache: {executor}");
            let seed = if runs == "run\n" { "seed\n" } else { "" };
            assert_eq!(image.content("/seed"), seed, "{executor}");
            assert!(!image.has("/cache") && !image.has("/seeded"), "{executor}");
        }
    }
}

#[test]
fn a_locked_cache_is_had_by_one_at_a_time_and_a_private_one_by_each() {
    let Some(site) = Site::with_base("alpine") else { return };
    // Which of the two comes first.
    let site = site.but_for(&["a-shared", "b-shared"]);
    let stage = |name: &str, sharing: &str| {
        format!(
            "FROM base AS {name}
RUN --mount=type=cache,target=/c,id={sharing},sharing={sharing} \\
    echo {name} >> /c/log; sleep 1; cat /c/log > /{name}-{sharing}; : > /c/log
"
        )
    };
    for (sharing, alone) in [("locked", true), ("private", true), ("shared", false)] {
        let stages = [stage("a", sharing), stage("b", sharing)].concat();
        let copies = format!("COPY --from=a /a-{sharing} /\nCOPY --from=b /b-{sharing} /\n");
        site.dockerfile(&format!("{stages}FROM scratch\n{copies}"));
        let image = site.image(&[]);
        let seen = [image.content(&format!("/a-{sharing}")), image.content(&format!("/b-{sharing}"))];
        assert_eq!(seen == ["a\n", "b\n"], alone, "{sharing}: {seen:?}");
    }
}

#[test]
fn memory_is_empty_and_bounded() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base
RUN --mount=type=tmpfs,target=/opt,size=64k ls /opt > /empty; dd if=/dev/zero of=/opt/x bs=1k count=100 || touch /full
RUN --mount=type=tmpfs,target=/fresh touch /fresh/x
",
    );
    let image = image(&site, "auto", &[]);
    assert_eq!(image.content("/empty"), "");
    assert!(image.has("/full") && !image.has("/opt/x") && !image.has("/fresh"));
}

/// Whether a text stands in any file beneath a directory.
fn stands_in(directory: &std::path::Path, text: &str) -> bool {
    let found = std::process::Command::new("grep").args(["-rlF", text]).arg(directory).output().expect("grep");
    !found.stdout.is_empty()
}

#[test]
fn secrets_are_seen_by_their_commands_and_nowhere_else() {
    const VALUE: &str = "xyzzy-plugh-31337";
    let Some(site) = Site::with_base("alpine") else { return };
    std::fs::write(site.path().join("secret"), VALUE).expect("writable");
    site.dockerfile(
        "FROM base
RUN --mount=type=secret,id=file sha256sum < /run/secrets/file > /one; stat -c '%u:%g %a' /run/secrets/file > /looks
RUN --mount=type=secret,id=file,target=/etc/token,uid=5,gid=6,mode=0440 stat -c '%u:%g %a' /etc/token > /token
RUN --mount=type=secret,id=variable,env=TOKEN printf %s \"$TOKEN\" | sha256sum > /two; ls /run/secrets > /none || true
RUN --mount=type=secret,id=absent ls /run/secrets > /absent || true
RUN env | grep -c TOKEN > /later || true; ls /run/secrets /etc/token > /gone || true
",
    );
    for executor in executors() {
        let layout = site.path().join(format!("image-{executor}"));
        let output = format!("type=oci,dest={},tar=false", layout.display());
        let secrets = ["--secret", "id=file,src=secret", "--secret", "id=variable,env=SECRET_VARIABLE"];
        let arguments = [&["-t", "image", "--no-cache", "--executor", executor, "-o", &output], &secrets[..]].concat();
        let program = site.program(&arguments).env("SECRET_VARIABLE", VALUE);
        let Finished { stderr, .. } = program.run().success();
        let image = Image::open(&layout);
        assert_eq!(image.content("/one"), image.content("/two"), "{executor}");
        assert_eq!(image.content("/looks"), "0:0 400\n", "{executor}");
        assert_eq!(image.content("/token"), "5:6 440\n", "{executor}");
        for path in ["/none", "/absent", "/gone"] {
            assert_eq!(image.content(path), "", "{executor} {path}");
        }
        assert_eq!(image.content("/later"), "0\n", "{executor}");
        assert!(!image.has("/etc/token") && !image.has("/run/secrets"), "{executor}");
        assert!(!stderr.contains(VALUE), "{executor}");
        assert!(!stands_in(&site.store(), VALUE) && !stands_in(&layout, VALUE), "{executor}");
    }
    // The value is in no key.
    let build = |value: &str| {
        std::fs::write(site.path().join("secret"), value).expect("writable");
        site.program(&["--secret", "id=file,src=secret"]).run().success().digest()
    };
    site.dockerfile("FROM base\nRUN --mount=type=secret,id=file,required sha256sum < /run/secrets/file > /one\n");
    assert_eq!(build("one"), build("two"));
    let failed = site.build(&["--no-cache"]);
    assert!(failed.code == 1 && failed.stderr.contains("--secret id=file"), "{}", failed.stderr);
}

#[test]
fn an_agent_answers_through_its_socket() {
    let Some(site) = Site::with_base("debian") else { return };
    let socket = site.path().join("agent");
    let agent = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for client in agent.incoming() {
            let mut client = client.expect("a client");
            let mut asked = [0; 5];
            client.read_exact(&mut asked).expect("a question");
            client.write_all(b"answer").expect("heard");
        }
    });
    site.file(
        "ask.pl",
        "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die $!;
print $s 'hello'; $s->flush; $s->shutdown(1); print <$s>;",
    );
    site.dockerfile(
        "FROM base
RUN --mount=type=ssh --mount=source=ask.pl,target=/ask.pl echo $SSH_AUTH_SOCK > /where; perl /ask.pl > /said
RUN --mount=type=ssh,id=other echo none$SSH_AUTH_SOCK > /none
",
    );
    for executor in executors() {
        let image = image(&site, executor, &["--ssh", &format!("default={}", socket.display())]);
        assert_eq!(image.content("/where"), "/run/buildkit/ssh_agent.0\n", "{executor}");
        assert_eq!((image.content("/said"), image.content("/none")), ("answer".into(), "none\n".into()), "{executor}");
    }
    site.dockerfile("FROM base\nRUN --mount=type=ssh,required true\n");
    let failed = site.build(&[]);
    assert!(failed.code == 1 && failed.stderr.contains("--ssh default"), "{}", failed.stderr);
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let Some(site) = Site::with_base("alpine") else { return };
    for (flag, said) in [
        ("--mount=type=volume,target=/x", "`volume` is no type of mount"),
        ("--mount=type=bind,target=/x,colour=red", "no option `colour`"),
        ("--mount=from=$STAGE,target=/x", "variables are not expanded"),
        ("--mount=type=cache,target=/", "can't be `/`"),
        ("--device=vendor.example/gpu", "--device"),
        ("--security=insecure", "--security=insecure"),
    ] {
        site.dockerfile(&format!("FROM base\nARG STAGE=base\nRUN {flag} true\n"));
        let failed = site.build(&[]);
        assert!(failed.code == 1 && failed.stderr.contains(said), "{flag}: {}", failed.stderr);
    }
    let failed = run(&mut site.program(&["--secret", "id=x,env=NOT_SET"]).into_command());
    assert!(failed.code == 2 && failed.stderr.contains("NOT_SET"), "{}", failed.stderr);
}
