//! Between the shapes of the host's crates and those of the WIT packages.

use cofferdam_dockerfile::{Diagnostic, Position, Severity, Span};
use cofferdam_plan::step::{
    ConfigChange, Effect, Healthcheck, ImageCommand, KeyValue, Planned, Read, State, StateField, Step, TreeRead,
    TreeSource,
};
use cofferdam_rootfs as rootfs;

use crate::bindings::instruction::cofferdam::{
    fs::{model, root},
    instruction::steps,
    types::{diagnostics, values},
};

pub(crate) fn timestamp(at: rootfs::Timestamp) -> values::Timestamp {
    values::Timestamp { seconds: at.seconds, nanoseconds: at.nanoseconds }
}

pub(super) fn metadata(of: &rootfs::Metadata) -> model::Metadata {
    let (kind, link_target) = match &of.kind {
        rootfs::Kind::File { .. } => (model::Kind::File, Vec::new()),
        rootfs::Kind::Directory => (model::Kind::Directory, Vec::new()),
        rootfs::Kind::Symlink { target } => (model::Kind::Symlink, target.clone()),
        rootfs::Kind::CharacterDevice { .. } => (model::Kind::CharacterDevice, Vec::new()),
        rootfs::Kind::BlockDevice { .. } => (model::Kind::BlockDevice, Vec::new()),
        rootfs::Kind::Fifo => (model::Kind::Fifo, Vec::new()),
        rootfs::Kind::Socket => (model::Kind::Socket, Vec::new()),
    };
    let owner = model::Owner { uid: of.owner.uid, gid: of.owner.gid };
    model::Metadata { kind, mode: of.mode, owner, size: of.size_bytes(), mtime: timestamp(of.mtime), link_target }
}

pub(super) fn owner(of: model::Owner) -> rootfs::Owner {
    rootfs::Owner { uid: of.uid, gid: of.gid }
}

pub(super) fn attributes(of: &model::Attributes) -> rootfs::Attributes {
    // More nanoseconds than a second has would be written into the layer's headers.
    let moment =
        |at: values::Timestamp| rootfs::Timestamp { seconds: at.seconds, nanoseconds: at.nanoseconds.min(999_999_999) };
    rootfs::Attributes { mode: of.mode & 0o7777, owner: owner(of.owner), mtime: of.mtime.map(moment) }
}

/// A fifo or a device; `None` for every other kind.
pub(super) fn node(kind: model::Kind, major: u32, minor: u32) -> Option<rootfs::Kind> {
    match kind {
        model::Kind::Fifo => Some(rootfs::Kind::Fifo),
        model::Kind::CharacterDevice => Some(rootfs::Kind::CharacterDevice { major, minor }),
        model::Kind::BlockDevice => Some(rootfs::Kind::BlockDevice { major, minor }),
        model::Kind::File | model::Kind::Directory | model::Kind::Symlink | model::Kind::Socket => None,
    }
}

pub(super) fn mode_change(of: &root::ModeChange) -> rootfs::ModeChange {
    match of {
        root::ModeChange::Exact(bits) => rootfs::ModeChange::Exact(bits & 0o7777),
        root::ModeChange::Symbolic(clauses) => rootfs::ModeChange::Symbolic(clauses.iter().map(mode_clause).collect()),
    }
}

fn mode_clause(of: &root::ModeClause) -> rootfs::ModeClause {
    let who = |flag| of.who.contains(flag);
    let may = |flag| of.permissions.contains(flag);
    rootfs::ModeClause {
        who: rootfs::Who { user: who(root::Who::USER), group: who(root::Who::GROUP), other: who(root::Who::OTHER) },
        operator: match of.operator {
            root::Operator::Add => rootfs::ModeOperator::Add,
            root::Operator::Remove => rootfs::ModeOperator::Remove,
            root::Operator::Assign => rootfs::ModeOperator::Assign,
        },
        permissions: rootfs::ModePermissions {
            read: may(root::Permissions::READ),
            write: may(root::Permissions::WRITE),
            execute: may(root::Permissions::EXECUTE),
            execute_if: may(root::Permissions::EXECUTE_IF),
            set_id: may(root::Permissions::SET_ID),
            sticky: may(root::Permissions::STICKY),
            like: rootfs::Who {
                user: may(root::Permissions::LIKE_USER),
                group: may(root::Permissions::LIKE_GROUP),
                other: may(root::Permissions::LIKE_OTHER),
            },
        },
    }
}

pub(crate) fn key_value(of: values::KeyValue) -> KeyValue {
    KeyValue { key: of.key, value: of.value }
}

pub(crate) fn key_values(of: &[KeyValue]) -> Vec<values::KeyValue> {
    of.iter().map(|pair| values::KeyValue { key: pair.key.clone(), value: pair.value.clone() }).collect()
}

fn span(of: Span) -> diagnostics::Span {
    let position = |at: Position| diagnostics::Position { line: at.line, column: at.column };
    diagnostics::Span { start: position(of.start), end: position(of.end) }
}

/// A finding of the host's own, as the guest's to hand back.
pub(super) fn to_wit(of: Diagnostic) -> diagnostics::Diagnostic {
    diagnostics::Diagnostic {
        severity: match of.severity {
            Severity::Error => diagnostics::Severity::Error,
            Severity::Warning => diagnostics::Severity::Warning,
            Severity::Note => diagnostics::Severity::Note,
        },
        code: of.code,
        message: of.message,
        span: of.span.map(span),
        help: of.help,
    }
}

/// A step as its handler sees it: state that the manifest doesn't name is empty.
pub(super) fn step(of: &Step, sees: &[StateField]) -> steps::Step {
    let flag = |flag: &cofferdam_plan::step::StepFlag| steps::Flag {
        name: flag.name.clone(),
        value: flag.value.clone(),
        span: span(flag.span),
    };
    let heredoc = |heredoc: &cofferdam_plan::step::StepHeredoc| steps::Heredoc {
        name: heredoc.name.clone(),
        content: heredoc.content.clone(),
        expand: heredoc.expand,
    };
    steps::Step {
        keyword: of.keyword.clone(),
        flags: of.flags.iter().map(flag).collect(),
        arguments: steps::Arguments {
            text: of.arguments.text.clone(),
            words: of.arguments.words.clone(),
            pairs: key_values(&of.arguments.pairs),
            json: of.arguments.json,
        },
        heredocs: of.heredocs.iter().map(heredoc).collect(),
        state: state(&of.state, sees),
        span: span(of.span),
    }
}

fn state(of: &State, sees: &[StateField]) -> steps::State {
    fn seen<T: Default>(sees: &[StateField], field: StateField, value: impl FnOnce() -> T) -> T {
        if sees.contains(&field) { value() } else { T::default() }
    }
    steps::State {
        environment: seen(sees, StateField::Environment, || key_values(&of.environment)),
        build_arguments: seen(sees, StateField::BuildArguments, || key_values(&of.build_arguments)),
        working_directory: seen(sees, StateField::WorkingDirectory, || of.working_directory.clone()),
        user: seen(sees, StateField::User, || of.user.clone()),
        shell: seen(sees, StateField::Shell, || of.shell.clone()),
        platform: seen(sees, StateField::Platform, || of.platform.clone()),
    }
}

pub(super) fn planned(of: steps::Planned) -> Planned {
    Planned {
        reads: of.reads.into_iter().map(read).collect(),
        changes: of.changes.into_iter().map(change).collect(),
        effect: match of.effect {
            steps::Effect::Configuration => Effect::Configuration,
            steps::Effect::RootFileSystem => Effect::RootFileSystem,
        },
    }
}

fn read(of: steps::Read) -> Read {
    match of {
        steps::Read::Tree(steps::TreeRead { source, patterns, exclude }) => {
            let source = match source {
                steps::TreeSource::Context => TreeSource::Context,
                steps::TreeSource::Named(name) => TreeSource::Named(name),
            };
            Read::Tree(TreeRead { source, patterns, exclude })
        }
        steps::Read::RootfsPath(path) => Read::RootfsPath(path),
        steps::Read::WholeRootfs => Read::WholeRootfs,
        steps::Read::Url(url) => Read::Url(url),
        steps::Read::Git(reference) => Read::Git(reference),
    }
}

fn change(of: steps::ConfigChange) -> ConfigChange {
    let command = |of: steps::ImageCommand| ImageCommand { arguments: of.arguments, shell_form: of.shell_form };
    match of {
        steps::ConfigChange::Environment(pair) => ConfigChange::Environment(key_value(pair)),
        steps::ConfigChange::Label(pair) => ConfigChange::Label(key_value(pair)),
        steps::ConfigChange::Expose(port) => ConfigChange::Expose(port),
        steps::ConfigChange::Volume(path) => ConfigChange::Volume(path),
        steps::ConfigChange::User(user) => ConfigChange::User(user),
        steps::ConfigChange::WorkingDirectory(path) => ConfigChange::WorkingDirectory(path),
        steps::ConfigChange::Command(it) => ConfigChange::Command(command(it)),
        steps::ConfigChange::Entrypoint(it) => ConfigChange::Entrypoint(command(it)),
        steps::ConfigChange::StopSignal(signal) => ConfigChange::StopSignal(signal),
        steps::ConfigChange::Shell(words) => ConfigChange::Shell(words),
        steps::ConfigChange::Healthcheck(check) => ConfigChange::Healthcheck(Healthcheck {
            test: check.test,
            interval_ns: check.interval,
            timeout_ns: check.timeout,
            start_period_ns: check.start_period,
            start_interval_ns: check.start_interval,
            retries: check.retries,
        }),
        steps::ConfigChange::OnBuild(trigger) => ConfigChange::OnBuild(trigger),
        steps::ConfigChange::Author(author) => ConfigChange::Author(author),
    }
}
