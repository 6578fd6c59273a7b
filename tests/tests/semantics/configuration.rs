//! The instructions that change the configuration only.

use cofferdam_tests::Site;
use serde_json::{Value, json};

#[test]
fn every_metadata_instruction_reaches_the_configuration() {
    let site = Site::new();
    site.dockerfile(
        r#"FROM scratch
MAINTAINER A Name <a@example.com>
ENV ONE=1 TWO="a b" THREE=a\ b
ENV OLD form with blanks
LABEL org.example.a=1 "org.example.b"="x y" org.example.c='$ONE' org.example.d=$ONE
EXPOSE 80 443/tcp 53/udp 8000-8002 $ONE
VOLUME ["/data", "/with blank"]
VOLUME /one /two
USER app:staff
WORKDIR /
STOPSIGNAL SIGQUIT
SHELL ["/bin/bash", "-ec"]
HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=500ms --retries=4 CMD curl -f http://localhost/ || exit 1
ENTRYPOINT ["/entry", "arg"]
CMD ["serve", "--port", "$ONE"]
ONBUILD RUN make
ONBUILD COPY . /src
"#,
    );
    let image = site.image(&["--label", "org.example.a=2", "--label", "added=yes"]);
    assert_eq!(image.document()["author"], "A Name <a@example.com>");
    let environment = image.config("Env");
    let environment: Vec<&str> = environment.as_array().expect("Env").iter().filter_map(Value::as_str).collect();
    for expected in ["ONE=1", "TWO=a b", "THREE=a b", "OLD=form with blanks"] {
        assert!(environment.contains(&expected), "{expected} in {environment:?}");
    }
    let labels = image.config("Labels");
    assert_eq!(
        labels,
        json!({"org.example.a": "2", "org.example.b": "x y", "org.example.c": "$ONE", "org.example.d": "1", "added": "yes"})
    );
    let ports = ["1/tcp", "443/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"];
    let expected: serde_json::Map<String, Value> = ports.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
    assert_eq!(image.config("ExposedPorts"), Value::Object(expected));
    assert_eq!(image.config("Volumes"), json!({"/data": {}, "/with blank": {}, "/one": {}, "/two": {}}));
    assert_eq!(image.config("User"), "app:staff");
    assert_eq!(image.config("WorkingDir"), "/");
    assert_eq!(image.config("StopSignal"), "SIGQUIT");
    assert_eq!(image.config("Shell"), json!(["/bin/bash", "-ec"]));
    assert_eq!(
        image.config("Healthcheck"),
        json!({
            "Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"],
            "Interval": 300_000_000_000_u64, "Timeout": 3_000_000_000_u64, "StartPeriod": 90_000_000_000_u64,
            "StartInterval": 500_000_000_u64, "Retries": 4,
        })
    );
    assert_eq!(image.config("Entrypoint"), json!(["/entry", "arg"]));
    assert_eq!(image.config("Cmd"), json!(["serve", "--port", "$ONE"]));
    assert_eq!(image.config("OnBuild"), json!(["RUN make", "COPY . /src"]));
    assert_eq!(image.layer_count(), 0, "nothing changed a file");
    let history = image.document()["history"].as_array().expect("history").clone();
    assert_eq!(history.len(), 14, "one entry for each instruction after FROM that is no trigger: {history:#?}");
    assert!(history.iter().all(|entry| entry["empty_layer"] == true));
}

#[test]
fn shell_forms_take_the_shell_in_force() {
    let site = Site::new();
    site.dockerfile(
        "FROM scratch\nENTRYPOINT exec top -b\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo $HOME \\\n  && true\n",
    );
    let image = site.image(&[]);
    assert_eq!(image.config("Entrypoint"), json!(["/bin/sh", "-c", "exec top -b"]));
    let command = image.config("Cmd");
    assert_eq!((&command[0], &command[1]), (&json!("/bin/bash"), &json!("-c")));
    let text = command[2].as_str().expect("a text").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(text, "echo $HOME && true");
}

#[test]
fn the_last_of_each_counts() {
    let site = Site::new();
    site.dockerfile(
        "FROM scratch\nCMD a\nCMD [\"b\"]\nENTRYPOINT [\"x\"]\nENTRYPOINT [\"y\"]\nUSER a\nUSER 7\nSTOPSIGNAL 9\nSTOPSIGNAL SIGTERM\nLABEL a=1\nLABEL a=2\nENV a=1\nENV a=2\nHEALTHCHECK CMD true\nHEALTHCHECK NONE\n",
    );
    let image = site.image(&[]);
    assert_eq!(image.config("Cmd"), json!(["b"]));
    assert_eq!(image.config("Entrypoint"), json!(["y"]));
    assert_eq!(image.config("User"), "7");
    assert_eq!(image.config("StopSignal"), "SIGTERM");
    assert_eq!(image.config("Labels"), json!({"a": "2"}));
    assert_eq!(image.config("Healthcheck"), json!({"Test": ["NONE"]}));
    let environment = image.config("Env");
    assert_eq!(environment.as_array().expect("Env").iter().filter(|pair| pair.as_str() == Some("a=2")).count(), 1);
    assert!(!environment.to_string().contains("a=1"), "{environment}");
}

#[test]
fn an_entrypoint_takes_back_the_inherited_command() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nLABEL x=y\n");
    assert_eq!(site.image(&[]).config("Cmd"), json!(["/bin/sh"]), "inherited");
    site.dockerfile("FROM base\nENTRYPOINT [\"/x\"]\n");
    assert_eq!(site.image(&[]).config("Cmd"), Value::Null);
    site.dockerfile("FROM base\nCMD [\"own\"]\nENTRYPOINT [\"/x\"]\n");
    assert_eq!(site.image(&[]).config("Cmd"), json!(["own"]));
}

#[test]
fn a_child_inherits_and_triggers_run_once() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("payload", "from the context of the child");
    site.dockerfile(
        "FROM base\nENV A=1\nLABEL l=1\nEXPOSE 80\nUSER nobody\nWORKDIR /w\nONBUILD COPY payload /triggered\nONBUILD ENV T=$A\nONBUILD USER root\n",
    );
    let parent = site.image(&[]);
    assert_eq!(parent.config("OnBuild").as_array().map(Vec::len), Some(3));
    assert!(!parent.has("/triggered"));
    let layout = format!("parent=oci-layout://{}/image-1:latest", site.path().display());
    site.dockerfile("FROM parent\nENV B=$T\n");
    let child = site.image(&["--build-context", &layout]);
    assert_eq!(child.content("/triggered"), "from the context of the child");
    assert_eq!(child.config("User"), "root");
    assert_eq!(child.config("WorkingDir"), "/w");
    assert_eq!(child.config("OnBuild"), Value::Null, "triggers do not reach grandchildren");
    let environment = child.config("Env").to_string();
    assert!(["A=1", "T=1", "B=1"].iter().all(|pair| environment.contains(&format!("\"{pair}\""))), "{environment}");
    assert_eq!(child.config("Labels"), json!({"l": "1"}));
    assert_eq!(child.config("ExposedPorts"), json!({"80/tcp": {}}));
}

#[test]
fn the_platform_and_the_epoch_are_in_the_document() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let image = site.image(&["--platform", "linux/arm64"]);
    assert_eq!((&image.document()["os"], &image.document()["architecture"]), (&json!("linux"), &json!("arm64")));
    assert_eq!(image.document()["created"], "1970-01-01T00:00:00Z");
    let image = site.image(&["--platform", "linux/arm/v7", "--build-arg", "SOURCE_DATE_EPOCH=86400"]);
    assert_eq!(image.document()["variant"], "v7");
    assert_eq!(image.document()["created"], "1970-01-02T00:00:00Z");
}

#[test]
fn the_history_is_buildkits() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("a", "").file("b", "");
    site.dockerfile(
        "FROM base
ARG x y=1 z
EXPOSE 9000 80-81/udp 443
ONBUILD RUN true
WORKDIR /
WORKDIR /w
COPY --link --chmod=600 --chown=1 --exclude=b a b /x/
COPY <<-\"one\" a <<two /y/
one
two
RUN <<EOF
true
EOF
RUN <<EOF
#!/bin/sh
EOF
RUN cat <<A <<B
a
A
b
B
RUN [\"true\", \"x\"]
",
    );
    let document = site.image(&[]).document().clone();
    let history = document["history"].as_array().expect("history")[1..].iter();
    let lines: Vec<(&str, bool)> =
        history.map(|line| (line["created_by"].as_str().expect("a text"), line["empty_layer"] == true)).collect();
    let of_run = "RUN |3 x= y=1 z= ";
    let run = |text: &str| format!("{of_run}{text} # buildkit");
    let expected: Vec<(String, bool)> = vec![
        ("ARG x y=1 z".into(), true),
        ("EXPOSE [443/tcp 80/udp 81/udp 9000/tcp]".into(), true),
        ("WORKDIR /".into(), true),
        ("WORKDIR /w".into(), false),
        ("COPY --chown=1 --chmod=600 a b /x/ # buildkit".into(), false),
        ("COPY a <<one <<two /y/ # buildkit".into(), false),
        (run("/bin/sh -c true\n"), false),
        (run("/bin/sh -c /dev/pipes/EOF"), false),
        (run("/bin/sh -c cat <<A <<B\na\nA\nb\nB"), false),
        (run("true x"), false),
    ];
    let expected: Vec<(&str, bool)> = expected.iter().map(|(text, empty)| (text.as_str(), *empty)).collect();
    assert_eq!(lines, expected);
}

#[test]
fn an_empty_command_is_none() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nENTRYPOINT []\nCMD []\n");
    let image = site.image(&["--label", "bare"]);
    assert_eq!((image.config("Cmd"), image.config("Entrypoint")), (Value::Null, Value::Null));
    assert_eq!(image.config("Labels"), json!({"bare": ""}), "a label without a value is empty");
}

#[test]
fn the_epoch_may_be_declared_before_the_first_stage() {
    let site = Site::new();
    site.dockerfile("ARG SOURCE_DATE_EPOCH=1000000000\nFROM scratch\nLABEL a=b\n");
    assert_eq!(site.image(&[]).document()["created"], "2001-09-09T01:46:40Z");
    let given = site.image(&["--build-arg", "SOURCE_DATE_EPOCH=0"]);
    assert_eq!(given.document()["created"], "1970-01-01T00:00:00Z", "what the user says counts");
    site.dockerfile("ARG SOURCE_DATE_EPOCH=yesterday\nFROM scratch\n");
    let failed = site.build(&[]);
    assert!(failed.code == 1 && failed.stderr.contains("`ARG SOURCE_DATE_EPOCH=yesterday`"), "{}", failed.stderr);
}
