//! ENV and ARG: where they are seen, and what words become.

use cofferdam_tests::{Image, Site};
use serde_json::Value;

/// The variables of an image, without those of the base.
fn environment(image: &Image) -> Vec<String> {
    let pairs = image.config("Env");
    let pairs = pairs.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |pair: &Value| pair.as_str().expect("a text").to_owned();
    pairs.iter().map(text).filter(|pair| !pair.starts_with("PATH=")).collect()
}

#[test]
fn one_instruction_sees_the_values_from_before_it() {
    let site = Site::new();
    // The example of the Dockerfile reference, "Environment replacement".
    site.dockerfile("FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n");
    assert_eq!(environment(&site.image(&[])), ["abc=bye", "def=hello", "ghi=bye"]);
}

#[test]
fn words_are_expanded_as_the_reference_says() {
    let site = Site::new();
    site.dockerfile(
        r#"FROM scratch
ENV set=value empty=
ENV r1=${set:-word} r2=${none:-word} r3=${empty:-word} r4=${empty-word}
ENV r5=${set:+word} r6=x${none:+word}y r7=\$set r8='$set' r9="$set" r10=$set-tail r11=${set}tail r12=$none.
ENV p=foo/bar/baz.tar.gz
ENV p1=${p#*/} p2=${p##*/} p3=${p%.*} p4=${p%%.*} p5=${p/bar/x} p6=${p//a/A} nested=${none:-${set}}
"#,
    );
    let expected = [
        "set=value",
        "empty=",
        "r1=value",
        "r2=word",
        "r3=word",
        "r4=",
        "r5=word",
        "r6=xy",
        "r7=$set",
        "r8=$set",
        "r9=value",
        "r10=value-tail",
        "r11=valuetail",
        "r12=.",
        "p=foo/bar/baz.tar.gz",
        "p1=bar/baz.tar.gz",
        "p2=baz.tar.gz",
        "p3=foo/bar/baz.tar",
        "p4=foo/bar/baz",
        "p5=foo/x/baz.tar.gz",
        "p6=foo/bAr/bAz.tAr.gz",
        "nested=value",
    ];
    assert_eq!(environment(&site.image(&[])), expected);
}

#[test]
fn arguments_live_from_their_line_to_the_end_of_their_stage() {
    let site = Site::new();
    site.dockerfile(
        "ARG GLOBAL=outer
ARG BASE=scratch
FROM ${BASE} AS one
ENV before=[$LOCAL] undeclared=[$GLOBAL]
ARG LOCAL=local
ARG GLOBAL
ENV after=[$LOCAL] declared=[$GLOBAL]
FROM scratch
ENV other=[$LOCAL][$GLOBAL]
COPY --from=one --chmod=${MODE:-644} Dockerfile /
ARG DEFAULTED=d
ARG EMPTY
ENV last=[$DEFAULTED][$EMPTY]
",
    );
    site.file("x", "");
    // `one` is copied from, so it must hold something.
    let text = std::fs::read_to_string(site.context().join("Dockerfile")).expect("there");
    site.dockerfile(&text.replace("ENV before", "COPY Dockerfile /\nENV before"));
    let image = site.image(&["--target", "one"]);
    assert_eq!(environment(&image), ["before=[]", "undeclared=[]", "after=[local]", "declared=[outer]"]);
    let image = site.image(&["--target", "one", "--build-arg", "LOCAL=given", "--build-arg", "GLOBAL=g"]);
    assert_eq!(environment(&image), ["before=[]", "undeclared=[]", "after=[given]", "declared=[g]"]);
    assert_eq!(environment(&site.image(&[])), ["other=[][]", "last=[d][]"]);
}

#[test]
fn a_stage_that_starts_from_a_stage_has_its_arguments() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS parent
ARG SET=default UNSET
FROM parent AS child
ENV seen=$SET
RUN echo \"$SET ${UNSET-unset}\" > /seen
FROM base
ENV stranger=[$SET]
COPY --from=child /seen /seen
",
    );
    let image = site.image(&["--build-arg", "SET=given"]);
    assert_eq!((image.content("/seen"), environment(&image)), ("given unset\n".into(), vec!["stranger=[]".into()]));
    let child = site.image(&["--target", "child"]);
    assert_eq!((child.content("/seen"), environment(&child)), ("default unset\n".into(), vec!["seen=default".into()]));
    let document = child.document().to_string();
    assert!(document.contains("RUN |2 SET=default UNSET= /bin/sh -c"), "{document}");
}

#[test]
fn a_variable_wins_over_an_argument() {
    let site = Site::new();
    // The reference, "Using ARG variables".
    site.dockerfile("FROM scratch\nARG VERSION\nENV VERSION=${VERSION:-v1.0}\nENV seen=$VERSION\n");
    assert_eq!(environment(&site.image(&["--build-arg", "VERSION=v2"])), ["VERSION=v2", "seen=v2"]);
    assert_eq!(environment(&site.image(&[])), ["VERSION=v1.0", "seen=v1.0"]);
    site.dockerfile("FROM scratch\nARG VERSION=argument\nENV VERSION=variable\nENV seen=$VERSION\n");
    assert_eq!(environment(&site.image(&["--build-arg", "VERSION=given"])), ["VERSION=variable", "seen=variable"]);
}

#[test]
fn platform_arguments_are_there_when_declared() {
    let site = Site::new();
    site.dockerfile(
        "FROM scratch\nENV undeclared=[$TARGETARCH]\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT\nENV t=$TARGETPLATFORM o=$TARGETOS a=$TARGETARCH v=$TARGETVARIANT\n",
    );
    let image = site.image(&["--platform", "linux/arm/v7"]);
    assert_eq!(environment(&image), ["undeclared=[]", "t=linux/arm/v7", "o=linux", "a=arm", "v=v7"]);
}

#[test]
fn arguments_do_not_stay_in_the_image() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nARG TOKEN\nARG HTTP_PROXY\nRUN echo \"$TOKEN\" | wc -c > /length\n");
    let image = site.image(&["--build-arg", "TOKEN=0123456789", "--build-arg", "HTTP_PROXY=http://proxy.invalid"]);
    assert_eq!(image.content("/length").trim(), "11");
    assert!(environment(&image).is_empty(), "{:?}", environment(&image));
}

#[test]
fn another_escape_character_is_possible() {
    let site = Site::new();
    site.dockerfile("# escape=`\nFROM scratch\nENV path=c:\\dir `\n    more=`$x\n");
    assert_eq!(environment(&site.image(&[])), ["path=c:\\dir", "more=$x"]);
}
