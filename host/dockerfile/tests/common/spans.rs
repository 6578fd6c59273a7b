//! The places of an instruction.

use cofferdam_dockerfile::{Instruction, Position, Span};

/// Whether a place is one of the text.
pub fn inside(span: Span, source: &str) -> bool {
    let lines: Vec<&str> = source.split('\n').collect();
    let on_line = |place: Position| {
        let line = lines.get((place.line as usize).wrapping_sub(1));
        place.column >= 1 && line.is_some_and(|line| place.column as usize <= line.len() + 1)
    };
    span.start <= span.end && on_line(span.start) && on_line(span.end)
}

/// Every place that an instruction tells of itself.
pub fn spans(instruction: &Instruction) -> Vec<Span> {
    let mut spans = vec![instruction.span, instruction.keyword_span, instruction.text.whole()];
    spans.extend(instruction.flags.iter().map(|flag| flag.span));
    spans.extend(instruction.heredocs.iter().flat_map(|heredoc| [heredoc.span, heredoc.body]));
    spans.extend(instruction.words().into_iter().map(|word| word.span));
    spans.extend(instruction.blank_separated().into_iter().map(|word| word.span));
    spans.extend(instruction.list().into_iter().flat_map(|list| list.words).map(|word| word.span));
    spans.extend(instruction.pairs().into_iter().flatten().map(|pair| pair.span));
    spans.extend(instruction.from_clause().into_iter().map(|from| from.image.span));
    if let Ok(Some(check)) = instruction.healthcheck() {
        spans.push(check.kind.span);
    }
    if let Ok(trigger) = instruction.trigger() {
        spans.extend([trigger.span, trigger.keyword_span, trigger.text.whole()]);
    }
    spans
}
