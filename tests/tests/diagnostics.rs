//! Mistakes of a user, and what the program says about them.

use cofferdam_tests::{Finished, Program, Site};

/// Asserts that a finding stands in the output: its message, its place, its source line marked, and its remedy.
#[track_caller]
fn assert_finding(built: &Finished, message: &str, line: usize, source: &str, help: &str) {
    let text = format!("\n{}", built.stderr);
    let block =
        text.split("\nERROR: ").skip(1).find(|block| block.lines().next().is_some_and(|line| line.contains(message)));
    // A step that failed has its place before its message, and the remedy behind it.
    let step = || text.lines().any(|line| line.starts_with("error: ") && line.contains(message)).then_some(&*text);
    let (block, remedy) = match block {
        Some(block) => (block, format!("help: {help}")),
        None => (step().unwrap_or_else(|| panic!("no `{message}` in\n{text}")), format!("\n  {help}")),
    };
    for expected in [format!("Dockerfile:{line}\n"), format!("{line} | >>> {source}"), remedy] {
        assert!(block.contains(&expected), "no `{expected}` in\n{block}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let site = Site::new();
    site.dockerfile(
        "FROM scratch AS one
COPPY a /b
RUN --fast true
EXPOSE 99999
STOPSIGNAL SIGNOPE
HEALTHCHECK --interval=soon CMD true
ADD onlysource
WORKDIR
COPY --chmod=rw \\
    a /b
ENV
LABEL
COPY --from=two a /x
FROM scratch AS two
MAINTANER somebody
",
    );
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    assert_eq!(built.stdout, "");
    assert_finding(&built, "COPPY (did you mean COPY?)", 2, "COPPY a /b", "write COPY");
    assert_finding(&built, "`RUN` has no flag `--fast`", 3, "RUN --fast true", "it takes ");
    assert_finding(&built, "`99999` is not a port", 4, "EXPOSE 99999", "write a number from 0 to 65535");
    assert_finding(&built, "`SIGNOPE` is not a signal", 5, "STOPSIGNAL SIGNOPE", "write a name such as `SIGTERM`");
    assert_finding(
        &built,
        "`soon` of `--interval`",
        6,
        "HEALTHCHECK --interval=soon CMD true",
        "write for example `30s`",
    );
    assert_finding(&built, "`ADD` needs at least one source", 7, "ADD onlysource", "write `ADD SOURCE… DESTINATION`");
    assert_finding(&built, "`rw` is not a mode", 9, "COPY --chmod=rw \\", "write an octal number");
    assert_finding(&built, "ENV requires at least one argument", 11, "ENV", "add an argument");
    assert_finding(&built, "MAINTANER (did you mean MAINTAINER?)", 15, "MAINTANER somebody", "write MAINTAINER");
    assert!(built.stderr.contains("WORKDIR") && built.stderr.contains("LABEL"), "{}", built.stderr);
    let count = built.stderr.matches("\nERROR: ").count() + usize::from(built.stderr.starts_with("ERROR: "));
    assert!(built.stderr.trim_end().ends_with(&format!("error: Dockerfile has {count} errors")), "{}", built.stderr);
    assert!(count >= 11, "{count} of 11 mistakes");
    assert!(
        !site.store().join("blobs/sha256").read_dir().is_ok_and(|mut blobs| blobs.next().is_some()),
        "nothing was built"
    );
}

#[test]
fn the_whole_of_a_long_instruction_is_marked() {
    let site = Site::new();
    site.dockerfile(
        "# first\nFROM scratch\nLABEL a=1 \\\n  b=2\nEXPOSE 80 \\\n  # a comment in between\n  http\nLABEL c=3\n",
    );
    let built = site.build(&[]);
    let shown: Vec<&str> = built.stderr.lines().filter(|line| line.contains(" | >>> ")).collect();
    assert_eq!(shown.len(), 3, "{}", built.stderr);
    assert!(built.stderr.contains("`http` is not a port") && built.stderr.contains("Dockerfile:5"), "{}", built.stderr);
}

#[test]
fn an_unknown_target_lists_the_stages() {
    let site = Site::new();
    site.dockerfile("FROM scratch AS Alpha\nCOPY Dockerfile /\nFROM scratch AS beta\nCOPY Dockerfile /\n");
    let built = site.build(&["--target", "alpa"]);
    assert_eq!(built.code, 1);
    assert!(built.stderr.contains("there is no stage `alpa`"), "{}", built.stderr);
    assert!(built.stderr.to_lowercase().contains("help: stages are: alpha, beta"), "{}", built.stderr);
    assert_eq!(site.build(&["--target", "7"]).code, 1);
    assert_eq!(site.build(&["--target", "ALPHA"]).code, 0, "names of stages know no case");
}

#[test]
fn what_is_missing_is_named() {
    let site = Site::new();
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    let expected = format!("no Dockerfile at `{}`; name it with `-f`", site.context().join("Dockerfile").display());
    assert!(built.stderr.contains(&expected), "{}", built.stderr);

    let built = site.build(&["-f", "else.Dockerfile"]);
    assert!(built.code == 1 && built.stderr.contains("else.Dockerfile"), "{}", built.stderr);

    let built = Program::new(&site.store()).args(["build", "no-such-context"]).current_dir(site.path()).run();
    assert_eq!(built.code, 1);
    assert!(built.stderr.contains("no-such-context` does not exist"), "{}", built.stderr);

    site.dockerfile("FROM scratch\nCOPY present missing.txt /x/\n").file("present", "");
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    assert_finding(
        &built,
        "`missing.txt` does not exist in the build context",
        2,
        "COPY present missing.txt",
        "check its spelling",
    );

    for (text, message) in [
        ("", "file with no instructions"),
        ("# only a comment\n", "file with no instructions"),
        ("LABEL a=b\nFROM scratch\n", "FROM"),
        ("FROM\n", "FROM"),
        ("FROM scratch AS\n", "FROM"),
        ("FROM scratch AS 1x!\n", "1x!"),
        ("FROM ${NOTHING}\n", "NOTHING"),
    ] {
        site.dockerfile(text);
        let built = site.build(&[]);
        assert_eq!(built.code, 1, "{text:?}: {}", built.stderr);
        assert!(built.stderr.contains(message), "{text:?}: {}", built.stderr);
    }
}

#[test]
fn a_base_that_can_not_be_had_is_named_with_the_reason() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nFROM 127.0.0.1:1/nothing:here\nCOPY x /\n");
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    assert!(built.stderr.contains("127.0.0.1:1/nothing:here"), "{}", built.stderr);
    assert!(built.stderr.contains("2 | >>> FROM 127.0.0.1:1/nothing:here"), "{}", built.stderr);
    assert!(built.stderr.contains("no connection to `127.0.0.1:1`"), "{}", built.stderr);
    let built = site.build(&["--build-context", "127.0.0.1:1/nothing:here=oci-layout://no-such-layout"]);
    assert!(built.code == 1 && built.stderr.contains("no-such-layout"), "{}", built.stderr);
}

#[test]
fn a_failing_command_is_shown_in_its_place() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base AS builder\nRUN echo before\nRUN echo almost && \\\n    false\nFROM base\nCOPY --from=builder /x /\n");
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    assert!(built.stderr.contains("3 | >>> RUN echo almost && \\"), "{}", built.stderr);
    assert!(built.stderr.contains("4 | >>>     false"), "{}", built.stderr);
    assert!(built.stderr.contains("failed: the command ended with exit code 1"), "{}", built.stderr);
    // The stage that waits for it is not another error.
    assert!(!built.stderr.contains(">>> COPY"), "{}", built.stderr);
}

#[test]
fn messages_hold_no_control_characters_of_the_input() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nC\u{1b}[31mOPPY a /b\nEXPOSE \u{1b}]0;title\u{7}\n");
    let built = site.build(&[]);
    assert_eq!(built.code, 1);
    assert!(!built.stderr.contains('\u{1b}') && !built.stderr.contains('\u{7}'), "{:?}", built.stderr);
}
