//! `--chmod`: octal, and symbolic as chmod(1) writes it.

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    fs::{ModeChange, ModeClause, Operator, Permissions, Who},
};

/// Reads `0755` or `u=rwX,go=rX`.
///
/// # Errors
/// It is neither, or more than the permission bits.
pub fn parse(text: &str) -> Result<ModeChange, Diagnostic> {
    let problem = || {
        error("InvalidMode", format!("`{text}` is not a mode"))
            .help("write an octal number from 0 to 7777, or clauses such as `u=rwX,go=rX`")
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        return mode.map(ModeChange::Exact).ok_or_else(problem);
    }
    let mut clauses = Vec::new();
    for clause in text.split(',') {
        clauses.append(&mut clauses_of(clause).ok_or_else(problem)?);
    }
    Ok(ModeChange::Symbolic(clauses))
}

/// `u+r-w` is two clauses for the same `who`.
fn clauses_of(text: &str) -> Option<Vec<ModeClause>> {
    let start = text.find(['+', '-', '='])?;
    let mut who = Who::empty();
    for character in text[..start].chars() {
        who |= match character {
            'u' => Who::USER,
            'g' => Who::GROUP,
            'o' => Who::OTHER,
            'a' => Who::all(),
            _ => return None,
        };
    }
    if who.is_empty() {
        who = Who::all();
    }
    let mut clauses: Vec<ModeClause> = Vec::new();
    for character in text[start..].chars() {
        let operator = match character {
            '+' => Some(Operator::Add),
            '-' => Some(Operator::Remove),
            '=' => Some(Operator::Assign),
            _ => None,
        };
        if let Some(operator) = operator {
            clauses.push(ModeClause { who, operator, permissions: Permissions::empty() });
            continue;
        }
        clauses.last_mut()?.permissions |= match character {
            'r' => Permissions::READ,
            'w' => Permissions::WRITE,
            'x' => Permissions::EXECUTE,
            'X' => Permissions::EXECUTE_IF,
            's' => Permissions::SET_ID,
            't' => Permissions::STICKY,
            'u' => Permissions::LIKE_USER,
            'g' => Permissions::LIKE_GROUP,
            'o' => Permissions::LIKE_OTHER,
            _ => return None,
        };
    }
    Some(clauses)
}

/// The mode of a regular file that has `mode` before the change.
pub fn applied(change: Option<&ModeChange>, mode: u32) -> u32 {
    match change {
        None => mode,
        Some(ModeChange::Exact(exact)) => *exact,
        Some(ModeChange::Symbolic(clauses)) => clauses.iter().fold(mode, apply_clause),
    }
}

fn apply_clause(mode: u32, clause: &ModeClause) -> u32 {
    let has = |permission| clause.permissions.contains(permission);
    let like = |permission, shift: u32| if has(permission) { mode >> shift & 7 } else { 0 };
    let mut triple =
        like(Permissions::LIKE_USER, 6) | like(Permissions::LIKE_GROUP, 3) | like(Permissions::LIKE_OTHER, 0);
    triple |= if has(Permissions::READ) { 4 } else { 0 };
    triple |= if has(Permissions::WRITE) { 2 } else { 0 };
    // `X` is execute for whoever can be meant by it: a file that somebody may execute already.
    triple |= if has(Permissions::EXECUTE) || has(Permissions::EXECUTE_IF) && mode & 0o111 != 0 { 1 } else { 0 };
    let (mut bits, mut all) = (0, 0);
    for (who, shift, set_id) in [(Who::USER, 6, 0o4000), (Who::GROUP, 3, 0o2000), (Who::OTHER, 0, 0)] {
        if clause.who.contains(who) {
            bits |= triple << shift;
            all |= 7 << shift | set_id;
            bits |= if has(Permissions::SET_ID) { set_id } else { 0 };
        }
    }
    if has(Permissions::STICKY) {
        bits |= 0o1000;
    }
    match clause.operator {
        Operator::Add => mode | bits,
        Operator::Remove => mode & !bits,
        Operator::Assign => mode & !all | bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str, before: u32) -> u32 {
        applied(Some(&parse(text).unwrap()), before)
    }

    #[test]
    fn octal_is_exact() {
        assert_eq!(mode("755", 0o644), 0o755);
        assert_eq!(mode("04711", 0), 0o4711);
        assert_eq!(mode("0", 0o777), 0);
    }

    #[test]
    fn symbolic_changes_what_is_there() {
        for (text, before, after) in [
            ("u=rwX,go=rX", 0o600, 0o644),
            ("u=rwX,go=rX", 0o700, 0o755),
            ("+x", 0o644, 0o755),
            ("a-w", 0o666, 0o444),
            ("u+r-w", 0o222, 0o422),
            ("g=", 0o777, 0o707),
            ("u+s,g+s,+t", 0o755, 0o7755),
            ("u=rw", 0o4755, 0o655),
            ("g=u,o=g", 0o640, 0o666),
            ("u+r,go=u-w", 0o300, 0o755),
        ] {
            assert_eq!(mode(text, before), after, "{text} {before:o}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["8", "77777", "u", "u+q", "rwx", "z=r", "u=r,", "u=h", "07 5"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
