//! One picture of a build for a terminal: what runs, with the end of its output and bars for what moves, and as much of what
//! is done as there is room for.

use std::time::Instant;

use cofferdam_engine::{Ending, Kind};

use super::{
    board::{Board, Moving, Unit},
    text::{columns, fit, printable},
    units::{bytes, seconds, short},
};

/// Of one unit of work no more lines are shown: several that run at once are to have room.
const DETAIL_LINES: usize = 6;

/// Lines narrower than this, in columns, have no bars.
const BAR_FROM_COLUMNS: usize = 56;

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its width.
    pub columns: usize,
    /// Its height.
    pub rows: usize,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The first line.
    Title,
    /// Something that runs.
    Running,
    /// More about it.
    Detail,
    /// Something that is done.
    Done,
    /// Something that failed.
    Failed,
}

/// A line that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Without control characters.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// The picture: at most one line less than the terminal has, and one column less, so that nothing ever wraps or scrolls.
pub fn frame(board: &Board, size: Size, now: Instant) -> Vec<Line> {
    let width = size.columns.saturating_sub(1).max(1);
    let room = size.rows.saturating_sub(1).max(1);
    let all = board.units().len();
    let running: Vec<&Unit> = board.running().collect();
    let title = format!("[+] Building {} ({}/{all})", seconds(board.elapsed(now)), all - running.len());
    let mut lines = vec![Line { text: fit(&title, width), style: Style::Title }];

    let room = room - 1;
    // A line that says how many are not shown takes the place of one that is.
    let heads = if running.len() > room { room.saturating_sub(1) } else { running.len() };
    let hidden = running.len() - heads;
    let room = room - heads - usize::from(hidden > 0 && room > 0);
    let details: Vec<Vec<String>> = running[..heads].iter().map(|unit| details(unit, width)).collect();
    let (shares, room) = share(room, &details);

    let done: Vec<&Unit> = board.units().iter().filter(|unit| unit.ended.is_some()).collect();
    lines.extend(done[done.len().saturating_sub(room)..].iter().map(|unit| head(unit, width, now)));
    for ((unit, details), shown) in running.iter().zip(details).zip(shares) {
        lines.push(head(unit, width, now));
        // Of output the end counts, and of what moves it is the newest.
        let skipped = details.len() - shown;
        lines.extend(details.into_iter().skip(skipped).map(|text| Line { text, style: Style::Detail }));
    }
    if hidden > 0 && size.rows > 2 {
        lines.push(Line { text: fit(&format!(" => … and {hidden} more"), width), style: Style::Running });
    }
    lines
}

/// Gives each list a line in turn until there is no room or nothing more to show; answers with the room that is left.
fn share(mut room: usize, lists: &[Vec<String>]) -> (Vec<usize>, usize) {
    let mut shares = vec![0; lists.len()];
    for round in 0..DETAIL_LINES {
        for (share, list) in shares.iter_mut().zip(lists) {
            if room > 0 && list.len() > round {
                *share += 1;
                room -= 1;
            }
        }
    }
    (shares, room)
}

fn head(unit: &Unit, width: usize, now: Instant) -> Line {
    let (word, style) = match &unit.ended {
        None => ("", Style::Running),
        Some((Ending::Done, _)) => ("", Style::Done),
        Some((Ending::Cached, _)) => ("CACHED ", Style::Done),
        Some((Ending::Stopped, _)) => ("STOPPED ", Style::Done),
        Some((Ending::Failed(_), _)) => ("ERROR ", Style::Failed),
    };
    let time = if unit.is_waiting() { "waiting".to_owned() } else { seconds(unit.elapsed(now)) };
    let right = match unit.layer_bytes {
        Some(size) if width >= BAR_FROM_COLUMNS => format!("{} {time:>7}", bytes(size)),
        _ => time,
    };
    Line { text: spread(&format!(" => {word}{}", unit.name), &right, width), style }
}

fn details(unit: &Unit, width: usize) -> Vec<String> {
    let inner = width.saturating_sub(6).max(1);
    let mut lines: Vec<String> = match unit.kind {
        Kind::Pull | Kind::Push | Kind::Output => {
            let moving = unit.moving.iter().take(DETAIL_LINES);
            moving.map(|(digest, moving)| bar(&short(digest), *moving, width)).collect()
        }
        _ => {
            let tail = unit.tail.last(DETAIL_LINES).map(|line| format!("    | {}", fit(&printable(line), inner)));
            tail.map(|line| fit(&line, width)).collect()
        }
    };
    if let Some((digest, unpacking)) = &unit.unpacking {
        lines.push(bar(&format!("unpacking {}", short(digest)), *unpacking, width));
    }
    if let Some(writing) = unit.writing {
        lines.push(bar("writing layer", writing, width));
    }
    lines.drain(..lines.len().saturating_sub(DETAIL_LINES));
    lines
}

/// `    sha256:0123456789ab   12.3MB / 45.6MB [====>     ]`.
fn bar(what: &str, moving: Moving, width: usize) -> String {
    let numbers = format!("{} / {}", bytes(moving.done_bytes), bytes(moving.total_bytes));
    if width < BAR_FROM_COLUMNS {
        return spread(&format!("    {what}"), &numbers, width);
    }
    let length = if width < 80 { 10 } else { 20 };
    let done = moving.part_of(length);
    let tip = if done < length { ">" } else { "" };
    let drawn = format!("{}{tip}", "=".repeat(done));
    spread(&format!("    {what}"), &format!("{numbers} [{drawn:<length$}]"), width)
}

/// A text at the left and one at the right edge; the left one is cut where both don't fit.
fn spread(left: &str, right: &str, width: usize) -> String {
    let taken = columns(right) + 1;
    if width < taken + 8 {
        return fit(left, width);
    }
    let left = fit(left, width - taken);
    let gap = width - columns(&left) - columns(right);
    format!("{left}{}{right}", " ".repeat(gap))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::progress::log::tests::{finished, output, started, working};
    use cofferdam_engine::{Digest, Event, Vertex};
    use std::time::Duration;

    /// Two steps that run, three that are done, a push.
    pub fn board(begun: Instant) -> Board {
        let mut board = Board::new(begun);
        let progress = |number: u8, done_bytes| Event::Progress {
            vertex: Vertex(6),
            digest: Digest::of(&[number]),
            done_bytes,
            total_bytes: 40_000_000,
        };
        for event in [
            started(1, Kind::LookUp, "looking up debian:12"),
            finished(1, Ending::Done),
            started(2, Kind::Step, "[builder 1/3] FROM debian:12"),
            finished(2, Ending::Done),
            started(3, Kind::Step, "[builder 2/3] RUN apt-get install -y build-essential ca-certificates"),
            Event::Layer { vertex: Vertex(3), digest: Digest::of(b""), size_bytes: 123_456_789 },
            finished(3, Ending::Cached),
            started(4, Kind::Step, "[builder 3/3] RUN make"),
            working(4),
            output(
                4,
                "cc one.c\ncc two.c\ncc three.c\nlinking \u{1b}[31m日本語日本語日本語日本語日本語日本語\r\n50 %\r60 %",
            ),
            started(5, Kind::Step, "[stage-1 2/2] COPY . ."),
            working(5),
            Event::Writing { vertex: Vertex(5), done_bytes: 5_000_000, total_bytes: 20_000_000 },
            started(6, Kind::Push, "pushing to registry.example/team/app"),
            progress(1, 10_000_000),
            progress(2, 40_000_000),
        ] {
            board.apply(&event, begun);
        }
        board
    }

    fn texts(size: Size) -> Vec<String> {
        let begun = Instant::now();
        frame(&board(begun), size, begun + Duration::from_millis(3200)).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let expected = "\
[+] Building 3.2s (3/6)
 => looking up debian:12                                                   1.5s
 => [builder 1/3] FROM debian:12                                           1.5s
 => CACHED [builder 2/3] RUN apt-get install -y build-essentia… 123.5MB    1.5s
 => [builder 3/3] RUN make                                                 3.2s
    | cc one.c
    | cc two.c
    | cc three.c
    | linking 日本語日本語日本語日本語日本語日本語
    | 60 %
 => [stage-1 2/2] COPY . .                                                 3.2s
    writing layer                                 5.0MB / 20.0MB [==>       ]
 => pushing to registry.example/team/app                                   3.2s
    sha256:4bf5122f3445                          10.0MB / 40.0MB [==>       ]
    sha256:dbc1b4c900ff                          40.0MB / 40.0MB [==========]";
        let shown = texts(Size { columns: 80, rows: 24 });
        for (shown, expected) in shown.iter().zip(expected.lines()) {
            let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeeze(shown), squeeze(expected), "{shown:#?}");
        }
        assert_eq!(shown.len(), expected.lines().count());
    }

    #[test]
    fn a_small_terminal_shows_what_runs() {
        let shown = texts(Size { columns: 40, rows: 7 });
        let expected = [
            "[+] Building 3.2s (3/6)",
            " => [builder 3/3] RUN make         3.2s",
            "    | 60 %",
            " => [stage-1 2/2] COPY . .         3.2s",
            "    writing layer      5.0MB / 20.0MB",
            " => pushing to registry.example/t… 3.2s",
        ];
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(shown.iter().map(|line| squeeze(line)).collect::<Vec<_>>(), expected.map(squeeze));
    }

    #[test]
    fn nothing_is_ever_wider_or_higher_than_the_terminal() {
        for columns in 1..=130 {
            for rows in 1..=30 {
                let shown = texts(Size { columns, rows });
                assert!(shown.len() < rows.max(2), "{columns}x{rows}: {} lines", shown.len());
                for line in shown {
                    assert!(super::columns(&line) < columns.max(2), "{columns}x{rows}: {line}");
                    assert!(!line.contains(char::is_control), "{columns}x{rows}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn more_steps_than_lines_are_counted() {
        let begun = Instant::now();
        let mut board = Board::new(begun);
        (1..=20).for_each(|number| board.apply(&started(number, Kind::Step, "[x 1/1] RUN y"), begun));
        let shown = frame(&board, Size { columns: 80, rows: 6 }, begun);
        assert_eq!(shown.len(), 5);
        assert_eq!(shown[4].text, " => … and 17 more");
    }
}
