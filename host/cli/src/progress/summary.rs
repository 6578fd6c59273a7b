//! What remains to be said when a build is over: the time and the layer of each step, what moved, and the end of the output of
//! what failed.

use std::time::Instant;

use cofferdam_engine::{Ending, Kind};

use super::{
    Outcome,
    board::{Board, Sum, Unit},
    lines::Tail,
    text::printable,
    units::{bytes, count, seconds},
};

/// As lines, without a newline. Each is fit for a log; a terminal cuts them to its width.
pub fn lines(board: &Board, outcome: Outcome, now: Instant) -> Vec<String> {
    if board.units().is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), title(board, outcome, now)];
    lines.extend(board.units().iter().map(|unit| row(unit, now)));
    lines.extend(moved(board));
    lines.extend(board.failed().map(failure).unwrap_or_default());
    lines
}

fn title(board: &Board, outcome: Outcome, now: Instant) -> String {
    let steps = board.units().iter().filter(|unit| unit.kind == Kind::Step);
    let (all, cached) = (steps.clone().count(), steps.filter(|unit| unit.is_cached()).count());
    let how = match outcome {
        Outcome::Done => "done in",
        Outcome::Failed => "failed after",
        Outcome::Interrupted => "interrupted after",
    };
    let time = seconds(board.elapsed(now));
    let cached = if cached > 0 { format!(", {cached} cached") } else { String::new() };
    format!("{how} {time}: {}{cached}", count(all, "step", "steps"))
}

/// `   1.2s  34.5MB  [builder 2/4] RUN make`.
fn row(unit: &Unit, now: Instant) -> String {
    let time = match &unit.ended {
        Some((Ending::Cached, _)) => "CACHED".to_owned(),
        Some((Ending::Failed(_), _)) => "ERROR".to_owned(),
        Some((Ending::Stopped, _)) => "STOPPED".to_owned(),
        Some((Ending::Done, _)) | None => seconds(unit.elapsed(now)),
    };
    let layer = unit.layer_bytes.map(bytes).unwrap_or_default();
    format!("{time:>7} {layer:>7}  {}", unit.name)
}

/// `pushed: 1 layer (12.3MB) uploaded, 2 (45.6MB) already there`.
fn moved(board: &Board) -> Vec<String> {
    let moved = board.moved();
    let mut lines = Vec::new();
    let part = |sum: Sum, how: &str| {
        (sum.layers > 0).then(|| format!("{} ({}) {how}", count(sum.layers, "layer", "layers"), bytes(sum.bytes)))
    };
    if let Some(pulled) = part(moved.downloaded, "downloaded") {
        lines.push(format!("pulled: {pulled}"));
    }
    let pushed = [
        part(moved.uploaded, "uploaded"),
        part(moved.mounted, "mounted from another repository"),
        part(moved.present, "already there"),
    ];
    let pushed: Vec<String> = pushed.into_iter().flatten().collect();
    if !pushed.is_empty() {
        lines.push(format!("pushed: {}", pushed.join(", ")));
    }
    lines
}

/// The end of a failed step's output, each line with something of ours in front.
fn failure(unit: &Unit) -> Vec<String> {
    let tail: Vec<String> = unit.tail.last(Tail::LINES).map(|line| format!("  | {}", printable(line))).collect();
    if tail.is_empty() {
        return tail;
    }
    let mut lines = vec![String::new(), format!("the end of the output of {}:", unit.name)];
    lines.extend(tail);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::log::tests::{finished, output, started};
    use cofferdam_engine::{Digest, Event, Transfer, Vertex};
    use std::time::Duration;

    #[test]
    fn it_tells_of_every_step_and_of_all_that_moved() {
        let begun = Instant::now();
        let mut board = Board::new(begun);
        let layer =
            |vertex: u32, size_bytes: u64| Event::Layer { vertex: Vertex(vertex), digest: Digest::of(b""), size_bytes };
        let moved = |size_bytes: u64, transfer| Event::Transferred {
            vertex: Vertex(4),
            digest: Digest::of(&size_bytes.to_be_bytes()),
            size_bytes,
            transfer,
        };
        for event in [
            started(1, Kind::Step, "[1/3] FROM x"),
            finished(1, Ending::Done),
            started(2, Kind::Step, "[2/3] RUN a"),
            layer(2, 34_500_000),
            finished(2, Ending::Cached),
            started(4, Kind::Push, "pushing to y"),
            started(3, Kind::Step, "[3/3] RUN b"),
            output(3, "one\n\u{1b}[2Jtwo"),
            moved(1_000, Transfer::Uploaded),
            moved(2_000, Transfer::Present),
            moved(3_000, Transfer::Present),
            finished(3, Ending::Failed("no".to_owned())),
            finished(4, Ending::Stopped),
        ] {
            board.apply(&event, begun);
        }
        let expected = [
            "",
            "failed after 2.0s: 3 steps, 1 cached",
            "   1.5s          [1/3] FROM x",
            " CACHED  34.5MB  [2/3] RUN a",
            "STOPPED          pushing to y",
            "  ERROR          [3/3] RUN b",
            "pushed: 1 layer (1.0kB) uploaded, 2 layers (5.0kB) already there",
            "",
            "the end of the output of [3/3] RUN b:",
            "  | one",
            "  | two",
        ];
        assert_eq!(lines(&board, Outcome::Failed, begun + Duration::from_secs(2)), expected);
    }

    #[test]
    fn nothing_is_said_of_a_build_in_which_nothing_began() {
        let now = Instant::now();
        assert!(lines(&Board::new(now), Outcome::Failed, now).is_empty());
    }
}
