//! Several stages, and trees beside the context.

use cofferdam_tests::{Site, is_root, skip};

#[test]
fn files_come_from_stages_by_name_and_by_number() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS Builder
RUN mkdir /out && echo made > /out/app && chown -R 7:8 /out && chmod 750 /out/app && ln -s app /out/current
FROM base
RUN echo second > /second
FROM scratch
COPY --from=builder /out /from-name
COPY --from=1 /second /from-number
COPY --from=0 --chown=1:2 /out/app /owned
COPY --from=base /etc/passwd /passwd
",
    );
    let image = site.image(&[]);
    assert_eq!(image.content("/from-name/app"), "made\n");
    assert_eq!(image.entry("/from-name/app"), "file 750 7:8");
    assert_eq!(image.entry("/from-name/current"), "link app");
    assert_eq!(image.content("/from-number"), "second\n");
    assert_eq!(image.entry("/owned"), "file 750 1:2");
    assert!(image.content("/passwd").starts_with("root:"));
    assert_eq!(image.names("/"), "from-name from-number owned passwd");
}

#[test]
fn stages_that_the_target_does_not_need_do_not_run() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS unused\nRUN exit 7\nFROM base AS wanted\nRUN echo yes > /x\nFROM wanted AS last\nRUN exit 8\n",
    );
    assert_eq!(site.image(&["--target", "wanted"]).content("/x"), "yes\n");
    assert_eq!(site.image(&["--target", "1"]).content("/x"), "yes\n");
    assert_eq!(site.build(&["--target", "unused"]).code, 7);
    assert_eq!(site.build(&[]).code, 8);
}

#[test]
fn a_stage_goes_on_where_another_ended() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS one\nENV A=1\nARG GOES=x\nWORKDIR /w\nUSER nobody\nFROM one AS two\nUSER root\nRUN echo \"$A$GOES\" > file\n",
    );
    let image = site.image(&[]);
    assert_eq!(image.content("/w/file"), "1x\n");
    assert!(image.config("Env").to_string().contains("A=1"));
}

#[test]
fn named_directories_are_trees_and_bases() {
    if !is_root() {
        return skip("owners can be unpacked as root only");
    }
    let site = Site::new();
    let other = site.path().join("other");
    std::fs::create_dir_all(other.join("sub")).expect("writable");
    std::fs::write(other.join("sub/file"), "named").expect("writable");
    std::fs::write(other.join("hidden"), "").expect("writable");
    std::fs::write(other.join(".dockerignore"), "hidden\n").expect("writable");
    site.dockerfile(
        "FROM other AS tree\nFROM scratch\nCOPY --from=other /sub /copied\nCOPY --from=tree /sub/file /based\n",
    );
    let image = site.image(&["--build-context", "other=other"]);
    assert_eq!((image.content("/copied/file"), image.content("/based")), ("named".into(), "named".into()));
    site.dockerfile("FROM scratch\nCOPY --from=other /hidden /\n");
    let failed = site.build(&["--build-context", "other=other"]);
    assert!(failed.code == 1 && failed.stderr.contains("`/hidden` does not exist in `other`"), "{}", failed.stderr);
    // Names of images are compared in their short form.
    for (name, written) in
        [("other", "other"), ("other", "docker.io/library/other:latest"), ("docker.io/other", "other:latest")]
    {
        site.dockerfile(&format!("FROM {written}\nCOPY --from={written} /sub/file /again\n"));
        let image = site.image(&["--build-context", &format!("{name}=other")]);
        assert_eq!((image.entry("/sub/file"), image.content("/again")), ("file 644 0:0".into(), "named".into()));
    }
}

#[test]
fn reads_of_a_stage_stay_in_its_root() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS hostile
RUN ln -s /etc/hostname /absolute && ln -s ../../../../../../etc/hostname /relative && ln -s / /self && echo image > /etc/hostname2
FROM scratch
COPY --from=hostile /self/self/etc/hostname2 /through
COPY --from=hostile /relative /x
",
    );
    let failed = site.build(&[]);
    assert!(
        failed.code == 1 && failed.stderr.contains("hostname`, which does not exist in `hostile`"),
        "{}",
        failed.stderr
    );
    let text = std::fs::read_to_string(site.context().join("Dockerfile")).expect("there");
    site.dockerfile(&text.replace("COPY --from=hostile /relative /x\n", ""));
    assert_eq!(site.image(&[]).content("/through"), "image\n");
}
