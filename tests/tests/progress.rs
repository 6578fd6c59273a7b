//! What a person sees of a build: on a terminal, in a log, in the logs of continuous integration systems, as events.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    process::Stdio,
};

use cofferdam_tests::{Events, Finished, Program, Registry, Site, Terminal, binary, repository_root};
use serde_json::Value;

/// What a command might write to do more than be read: to the terminal, to GitHub's runner, to GitLab's log.
const HOSTILE: &str = r#"RUN printf '10%%\r20%%\r30%%\n' && printf '\033[2J\033[1;1H\033[?1049h\033[?25l\033]0;title\007hostile\n' && \
    printf '::set-env name=PATH::/evil\n  ::error::x\n##[add-path]/evil\n' && \
    printf '\033[0Ksection_end:1:cofferdam\r\033[0K\n\377\376\n' && \
    head -c 300000 /dev/zero | tr '\0' x && echo && \
    printf 'e\314\201 \346\227\245\346\234\254 \342\200\256drawkcab\n'
"#;

fn hostile() -> Option<Site> {
    let site = Site::with_base("alpine")?;
    site.dockerfile(&format!("FROM base\n{HOSTILE}"));
    Some(site)
}

/// Two stages of which one has run, and the other runs until it is told to end.
fn slow() -> Option<Site> {
    let site = Site::with_base("alpine")?;
    site.dockerfile(
        "FROM base AS first\nRUN echo first > /first\n\
         FROM base\nCOPY --from=first /first /\n\
         RUN seq 1 50; echo; printf 'half a line'; i=0; while [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done\n",
    );
    Some(site)
}

fn auto(site: &Site, arguments: &[&str]) -> Program {
    site.program(arguments).env("BUILDKIT_PROGRESS", "auto")
}

/// The frames that were drawn, without the sequences around them.
fn frames(raw: &str) -> Vec<&str> {
    raw.split("\x1b[?2026h")
        .skip(1)
        .filter_map(|frame| frame.split_once("\x1b[?2026l").map(|(frame, _)| frame))
        .collect()
}

#[test]
fn a_log_holds_lines_and_nothing_else() {
    let Some(site) = hostile() else { return };
    let log = site.path().join("log");
    let mut command = auto(&site, &[]).env("TERM", "xterm").into_command();
    let to = fs::File::create(&log).expect("writable");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).status().expect("starts");
    assert!(status.success());
    let bytes = fs::read(&log).expect("written");
    assert!(!bytes.iter().any(|byte| *byte < b' ' && !b"\n\t".contains(byte)), "{}", String::from_utf8_lossy(&bytes));
    let text = String::from_utf8(bytes).expect("UTF-8");
    let longest = text.lines().map(str::len).max();
    assert!(longest < Some(17_000), "a line of {longest:?} bytes");
    assert!(text.lines().all(|line| !line.trim_start().starts_with("::")), "{text}");
    assert!(!text.contains("##[") && !text.contains('\u{202e}'), "{text}");
    for words in [" hostile", " ::set-env name=PATH::/evil", " 30%", " e\u{301} 日本 "] {
        assert!(text.lines().any(|line| line.starts_with('#') && line.contains(words)), "{words}");
    }
    assert!(text.contains("\ndone in ") && text.contains("  [1/2] FROM base\n"), "a summary: {text}");
}

#[test]
fn a_terminal_shows_what_runs_and_keeps_the_summary() {
    let Some(site) = hostile() else { return };
    let text = format!("FROM base\nRUN echo cached\n{HOSTILE}RUN seq 1 50; printf 'half a line'; sleep 2; echo\n");
    site.dockerfile("FROM base\nRUN echo cached\n").build(&[]).success();
    site.dockerfile(&text);
    let Some(terminal) = Terminal::start(auto(&site, &[]), 80, 24) else { return };
    terminal.wait_for("    | half a line");
    let screen = terminal.screen();
    assert!(screen[0].starts_with("[+] Building "), "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with(" => CACHED [2/4] RUN echo cached")), "{screen:#?}");
    assert!(screen.iter().any(|line| line == "    | 50"), "{screen:#?}");
    let ended = terminal.end();
    assert_eq!(ended.code, 0, "{:#?}", ended.screen);
    assert!(!ended.is_cursor_hidden);
    assert!(!ended.raw.contains("\x1b[?1049h") && !ended.raw.contains("\x1b]0;"), "the command's own sequences");
    let lines = &ended.screen;
    assert!(
        lines.iter().any(|line| line.starts_with("done in ") && line.ends_with(": 4 steps, 1 cached")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with(" CACHED ") && line.ends_with(" [2/4] RUN echo cached")),
        "{lines:#?}"
    );
    assert!(!lines.iter().any(|line| line.contains(" => ") || line.contains("[+]")), "{lines:#?}");
    let frames = frames(&ended.raw).len();
    assert!((3..=60).contains(&frames), "{frames} frames in some seconds");
}

#[test]
fn a_terminal_may_be_small_and_change_its_size() {
    let Some(site) = slow() else { return };
    let Some(mut terminal) = Terminal::start(auto(&site, &[]), 40, 8) else { return };
    terminal.wait_for("    | half a line");
    let small = terminal.raw();
    for frame in frames(&small) {
        assert!(frame.matches('\n').count() <= 7, "higher than the terminal: {frame:?}");
    }
    let screen = terminal.screen();
    assert!(screen.iter().all(|line| line.chars().count() < 40), "{screen:#?}");
    terminal.resize(100, 30);
    // A line that has more room shows more.
    terminal.wait_for("half a line'; i=0; while [ $i");
    terminal.press(b"\x03");
    let ended = terminal.end();
    assert_eq!(ended.code, 130, "{:#?}", ended.screen);
}

#[test]
fn an_interrupted_build_leaves_the_terminal_clean() {
    let Some(site) = slow() else { return };
    for (signal, code) in [("Ctrl-C", 130), ("TERM", 143)] {
        let Some(mut terminal) = Terminal::start(auto(&site, &[]), 80, 24) else { return };
        terminal.wait_for("    | half a line");
        match signal {
            "Ctrl-C" => terminal.press(b"\x03"),
            _ => terminal.signal(signal),
        }
        let ended = terminal.end();
        assert_eq!(ended.code, code, "{signal}: {:#?}", ended.screen);
        assert!(!ended.is_cursor_hidden, "{signal}");
        let lines = &ended.screen;
        assert!(lines.iter().any(|line| line == "stopping" || line == "^Cstopping"), "{signal}: {lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("interrupted after ")), "{signal}: {lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("STOPPED ")), "{signal}: {lines:#?}");
        assert!(lines.last().is_some_and(|line| line.starts_with("error: interrupted")), "{signal}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(" => ") || line.contains("[+]")), "{signal}: {lines:#?}");
    }
}

#[test]
fn a_failed_step_is_the_last_thing_on_the_terminal() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nRUN seq 1 30; echo the reason >&2; sleep 0.3; exit 3\n");
    let Some(terminal) = Terminal::start(auto(&site, &[]), 60, 40) else { return };
    let ended = terminal.end();
    assert_eq!(ended.code, 3, "{:#?}", ended.screen);
    let lines = &ended.screen;
    let place =
        |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:#?}"));
    assert!(place("failed after ") < place("  | the reason"), "{lines:#?}");
    assert!(place("  | the reason") < place(">>> RUN seq"), "{lines:#?}");
    assert!(place("  ERROR ") < place("  | 30"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(" => ") || line.contains("[+]")), "{lines:#?}");
}

#[test]
fn colours_and_cursors_are_used_where_they_are_wanted() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nRUN sleep 0.5\n");
    let ask = |name: &str, value: &str| {
        let program = auto(&site, &["--no-cache"]).env(name, value);
        Some(Terminal::start(program, 80, 24)?.end())
    };
    let has_colour = |raw: &str| {
        let mut sequences = raw.split("\x1b[").skip(1);
        sequences.any(|rest| rest.trim_start_matches(|c: char| c == ';' || c.is_ascii_digit()).starts_with('m'))
    };
    let (Some(usual), Some(plain), Some(dumb)) = (ask("LANG", "C"), ask("NO_COLOR", "1"), ask("TERM", "dumb")) else {
        return;
    };
    assert!(has_colour(&usual.raw) && !frames(&usual.raw).is_empty());
    assert!(!has_colour(&plain.raw) && !frames(&plain.raw).is_empty(), "{:?}", plain.raw);
    assert!(!dumb.raw.contains('\u{1b}') && dumb.raw.contains("#1 [1/2] FROM base\r\n"), "{:?}", dumb.raw);
}

#[test]
fn a_view_for_terminals_needs_one() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let built = site.build(&["--progress", "tty"]);
    assert_eq!(built.code, 2, "{}", built.stderr);
    assert!(built.stderr.contains("needs a terminal"), "{}", built.stderr);
    assert!(!site.store().exists(), "nothing was begun");
    let quiet = site.build(&["--progress", "quiet"]).success();
    assert_eq!(quiet.stderr, "");
    // An explicit wish wins over the surroundings.
    let plain = site.program(&["--progress", "plain"]).env("GITHUB_ACTIONS", "true").run().success();
    assert!(!plain.stderr.contains("::group::"), "{}", plain.stderr);
}

#[test]
fn gitlab_gets_sections_that_do_not_overlap() {
    let Some(site) = hostile() else { return };
    site.dockerfile(&format!(
        "FROM base AS one\nRUN sleep 1; echo one\nFROM base AS two\nRUN echo two\n{HOSTILE}\
         FROM base\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
    ));
    let built = auto(&site, &[]).env("GITLAB_CI", "true").run().success();
    let (mut open, mut names) = (None, BTreeSet::new());
    // As GitLab finds them: section_(start|end):TIME:NAME[OPTIONS], CR, ESC [0K.
    for part in built.stderr.split("section_").skip(1) {
        let Some((marker, _)) = part.split_once("\r\x1b[0K") else { continue };
        let words: Vec<&str> = marker.splitn(3, ':').collect();
        let [kind, time, name] = words[..] else { panic!("{marker}") };
        assert!(time.parse::<u64>().is_ok_and(|time| time > 1_000_000_000), "{marker}");
        let name = name.split('[').next().unwrap_or_default();
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)), "{marker}");
        match kind {
            "start" => {
                assert_eq!(open.replace(name), None, "{marker}");
                assert!(names.insert(name.to_owned()), "{name} twice");
            }
            _ => assert_eq!(open.take(), Some(name), "{marker}"),
        }
    }
    assert_eq!(open, None);
    assert_eq!(names.len(), 5, "{names:?}\n{}", built.stderr);
    assert_eq!(built.stderr.matches('\r').count(), 2 * names.len(), "no other carriage returns");
}

#[test]
fn github_gets_groups_and_annotations_and_no_commands_of_others() {
    let Some(site) = hostile() else { return };
    let executor = site.path().join("executor");
    symlink(binary(), &executor).expect("writable");
    let program = |dockerfile: &str| {
        site.file("docker/Dockerfile", format!("FROM alpine\n{dockerfile}").replace("FROM alpine", "FROM base"));
        let program = auto(&site, &["-f", "context/docker/Dockerfile", "--build-arg", "TOKEN=1"]);
        program.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", site.path())
    };
    let commands = |done: &Finished| -> Vec<String> {
        assert!(!done.stderr.contains("##["), "{}", done.stderr);
        let lines = done.stderr.lines().filter(|line| line.trim_start().starts_with("::"));
        lines.map(str::to_owned).collect()
    };
    let built = program(HOSTILE).run().success();
    let found = commands(&built);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("::group::#")
            && found[0].contains("[2/2] RUN printf '10%25%25\\r20%25%25")
            && found[1] == "::endgroup::"
    );
    let failed = program("RUN echo ::stop-commands::x; \\\n\n exit 4\n").run();
    assert_eq!(failed.code, 4);
    let mut found = commands(&failed);
    let warning = found.remove(0);
    assert!(warning.starts_with("::warning file=context/docker/Dockerfile,line=4,endLine=4,"), "{warning}");
    assert!(warning.contains("title=NoEmptyContinuation::"), "{warning}");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[2]
            .starts_with("::error file=context/docker/Dockerfile,line=2,endLine=4,title=StepFailed::`RUN echo ::stop"),
        "{found:#?}"
    );
    let unreachable = program("FROM registry.invalid/x\n").run();
    let found = commands(&unreachable);
    let place = "::error file=context/docker/Dockerfile,line=2,endLine=2,title=BaseImage::image `registry.invalid/x`: ";
    assert!(found.iter().any(|line| line.starts_with(place)), "{found:#?}");
    let wrong = program("COPYY a b\nRUNN c\n").run();
    let places: Vec<String> =
        commands(&wrong).iter().map(|command| command.split("::").nth(1).unwrap_or_default().to_owned()).collect();
    let expected =
        |line| format!("error file=context/docker/Dockerfile,line={line},endLine={line},title=UnknownInstruction");
    assert_eq!(places, [expected(2), expected(3)]);
    // Kaniko's door looks the same.
    site.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let arguments = ["--context", "context", "--no-push"];
    let kaniko = Program::called(&executor, &site.store()).args(arguments).current_dir(site.path());
    let kaniko = kaniko.env("GITHUB_ACTIONS", "true").run().success();
    assert!(kaniko.stderr.contains("::group::#") && kaniko.stderr.contains("\ndone in "), "{}", kaniko.stderr);
}

/// The events of `docs/progress.md`, each with its fields.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(repository_root().join("docs/progress.md")).expect("there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let events = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        let fields = rest.split(" | ").next()?;
        // Words in brackets are values, not fields.
        let outside = fields.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        let words = |part: &str| part.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let first = fields.split('(').next().map(words).unwrap_or_default();
        Some((name.to_owned(), outside.skip(1).flat_map(words).chain(first).collect()))
    });
    events.collect()
}

#[test]
fn every_event_is_documented_with_its_fields() {
    let Some(site) = Site::with_base("alpine") else { return };
    let Some(registry) = Registry::open() else { return };
    site.dockerfile(
        "FROM base as first\nRUN head -c 60000000 /dev/urandom > /large && echo made\nFROM first\nRUN \\\n\n exit 3\n",
    );
    let name = format!("{}/team/app:1", registry.host());
    let run = |arguments: &[&str]| site.program(&[&["--progress", "json"], arguments].concat()).run();
    let failed = run(&[]);
    assert_eq!(failed.code, 3);
    let built = run(&["--target", "first", "--tag", &name, "--push", "--output", "type=oci,dest=out.tar"]).success();
    site.dockerfile(&format!("FROM {name}\nCOPY Dockerfile /etc/\n"));
    let pulled = Site::new();
    pulled.dockerfile(&format!("FROM {name}\nCOPY Dockerfile /etc/\n"));
    let pulled = pulled.build(&["--progress", "json"]).success();
    let documented = documented();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for finished in [&failed, &built, &pulled] {
        let events = Events::of(finished);
        for event in events.iter() {
            let fields = event.as_object().expect("an object");
            let kind = fields["event"].as_str().expect("a name").to_owned();
            let known = documented.get(&kind).unwrap_or_else(|| panic!("`{kind}` is not documented"));
            let own = fields.keys().filter(|name| !["time", "since_start", "event"].contains(&name.as_str()));
            assert_eq!(own.cloned().collect::<BTreeSet<_>>(), *known, "{kind}");
            seen.insert(kind);
        }
        let last = events.iter().last().expect("events");
        assert_eq!(last["event"], "summary");
    }
    for event in ["started", "working", "output", "note", "layer", "transferred", "finished", "warnings", "summary"] {
        assert!(seen.contains(event), "{event} is documented and was not seen: {seen:?}");
    }
    // Numbers that add up.
    let sum = |finished: &Finished, what: &str| -> Value {
        Events::of(finished).iter().last().map(|summary| summary[what]["layers"].clone()).unwrap_or_default()
    };
    assert_eq!((sum(&built, "uploaded"), sum(&pulled, "downloaded")), (2.into(), 2.into()));
    let outcomes =
        [&failed, &built].map(|finished| Events::of(finished).iter().last().map(|last| last["outcome"].clone()));
    assert_eq!(outcomes, [Some("failed".into()), Some("done".into())]);
}
