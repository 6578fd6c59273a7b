//! FROM: the image's name, its arguments, the platform.

use std::collections::BTreeSet;

use cofferdam_dockerfile::{
    FromClause, Instruction, closest_exactly,
    expand::{Expander, Expansion},
    lint::{Findings, Reach, Rule, quoted},
};

use super::image_name::is_image_name;
use crate::{Platform, Scope};

/// `FROM $NAME` without `ARG NAME`.
pub static UNDEFINED_ARG_IN_FROM: Rule = Rule {
    name: "UndefinedArgInFrom",
    description: "FROM command must use declared ARGs",
    format: "FROM argument '{}' is not declared{}",
    help: "declare it with ARG before the first FROM",
    experimental: false,
    reach: Reach::File,
    bad: "FROM alpine$VARIANT\n",
    good: "ARG VARIANT\nFROM alpine$VARIANT\n",
};

/// A base that has no name unless somebody passes arguments.
pub static INVALID_DEFAULT_ARG_IN_FROM: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    description: "Default value for global ARG results in an empty or invalid base image name",
    format: "Default value for ARG {} results in empty or invalid base image name",
    help: "give the ARG a default with which the name is one, or write `${NAME:-default}`",
    experimental: false,
    reach: Reach::File,
    bad: "ARG TAG\nFROM alpine:$TAG\n",
    good: "ARG TAG=latest\nFROM alpine:$TAG\n",
};

/// `FROM --platform=linux/amd64`.
pub static FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    description: "FROM --platform flag should not use a constant value",
    format: "FROM --platform flag should not use constant value {}",
    help: "use `$BUILDPLATFORM` or an ARG, leave the flag to the command line, or name the stage after the platform",
    experimental: false,
    reach: Reach::File,
    bad: "FROM --platform=linux/amd64 alpine AS base\n",
    good: "FROM --platform=linux/amd64 alpine AS base-amd64\n",
};

/// `FROM --platform=$TARGETPLATFORM`.
pub static REDUNDANT_TARGET_PLATFORM: Rule = Rule {
    name: "RedundantTargetPlatform",
    description: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    format: "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
    help: "remove the flag",
    experimental: false,
    reach: Reach::File,
    bad: "FROM --platform=$TARGETPLATFORM alpine\n",
    good: "FROM --platform=$BUILDPLATFORM alpine\n",
};

/// An image for another platform than the one that was asked for.
pub static INVALID_BASE_IMAGE_PLATFORM: Rule = Rule {
    name: "InvalidBaseImagePlatform",
    description: "Base image platform does not match expected target platform",
    format: "Base image {} was pulled with platform {}, expected {} for current build",
    help: "use an image that exists for the platform, or build for another one with `--platform`",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM image-for-arm64-only\n",
    good: "FROM image-for-many-platforms\n",
};

/// What a word becomes, and which names were looked up for it.
fn expansion(text: &str, escape: char, scope: &Scope) -> Expansion {
    let lookup = |name: &str| scope.lookup(name).map(str::to_owned);
    Expander::new(escape).expand(text, &lookup).unwrap_or_else(|error| Expansion {
        text: String::new(),
        lookups: *error.lookups,
        ..Expansion::default()
    })
}

/// The rules about the text of FROM. `declared` are the names of the ARGs before the first FROM; `defaults` are the
/// variables as they are if nobody passes an argument.
pub(super) fn check(
    instruction: &Instruction,
    from: &FromClause,
    globals: &Scope,
    defaults: &Scope,
    declared: &BTreeSet<String>,
    findings: &mut Findings<'_>,
) {
    let escape = instruction.escape;
    if !is_image_name(&expansion(&from.image.text, escape, defaults).text) {
        findings.report(&INVALID_DEFAULT_ARG_IN_FROM, instruction, &[&from.image.text]);
    }
    let mut undeclared = expansion(&from.image.text, escape, globals).lookups.unset;
    if let Some(flag) = from.platform.as_ref().and_then(|flag| flag.value.as_deref()) {
        let found = expansion(flag, escape, globals);
        let constant = found.lookups.set.is_empty() && found.lookups.unset.is_empty();
        let name = from.name.as_ref().map_or("", |name| name.text.as_str());
        if constant
            && let Ok(platform) = found.text.parse::<Platform>()
            && !name.contains(&platform.os)
            && !name.contains(&platform.architecture)
        {
            findings.report(&FROM_PLATFORM_FLAG_CONST_DISALLOWED, instruction, &[&quoted(&found.text)]);
        }
        // The one name alone, and unchanged: anything else is more than the default.
        let only = found.lookups.unset.is_empty() && found.lookups.set.iter().eq(["TARGETPLATFORM"]);
        if only && globals.lookup("TARGETPLATFORM") == Some(&found.text) {
            findings.report(&REDUNDANT_TARGET_PLATFORM, instruction, &[flag]);
        }
        undeclared.extend(found.lookups.unset);
    }
    for name in undeclared.iter().filter(|name| !declared.contains(*name)) {
        let known = declared.iter().map(String::as_str).chain(globals.names());
        let hint = closest_exactly(name, known).map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
        findings.report(&UNDEFINED_ARG_IN_FROM, instruction, &[name, &hint]);
    }
}

/// The rule about what a base image turned out to be.
pub(super) fn check_platform(
    instruction: &Instruction,
    name: &str,
    wanted: &Platform,
    found: &Platform,
    findings: &mut Findings<'_>,
) {
    if (&wanted.os, &wanted.architecture) != (&found.os, &found.architecture) {
        let values = [name, &quoted(&found.to_string()), &quoted(&wanted.to_string())];
        findings.report(&INVALID_BASE_IMAGE_PLATFORM, instruction, &values);
    }
}
