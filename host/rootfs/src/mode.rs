//! Changes of permission bits, as chmod(1) of GNU coreutils means them.

const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;
const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;

/// How the mode of what is copied is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// Every entry gets these bits, directories too.
    Exact(u32),
    /// Applied to each entry's own bits, clause by clause.
    Symbolic(Vec<ModeClause>),
}

/// One clause of a symbolic mode, for example `u+rwX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeClause {
    /// Who it is for; nobody named means everybody (the umask does not count).
    pub who: Who,
    /// What it does.
    pub operator: ModeOperator,
    /// What it is about.
    pub permissions: ModePermissions,
}

/// Who a clause is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Who {
    /// `u`
    pub user: bool,
    /// `g`
    pub group: bool,
    /// `o`
    pub other: bool,
}

/// What a clause does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeOperator {
    /// `+`
    Add,
    /// `-`
    Remove,
    /// `=`
    Assign,
}

/// What a clause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModePermissions {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `x`
    pub execute: bool,
    /// `X`: like `x`, but only for directories and for what somebody may execute already.
    pub execute_if: bool,
    /// `s`
    pub set_id: bool,
    /// `t`
    pub sticky: bool,
    /// `u`, `g` and `o`: what those may do before the clause.
    pub like: Who,
}

impl ModeChange {
    /// The bits that an entry of mode `mode` gets.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Exact(bits) => bits & 0o7777,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

impl ModeClause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = |set: bool, bits: u32| if set { bits } else { 0 };
        let affected = match self.who {
            Who { user: false, group: false, other: false } => 0o7777,
            who => bits(who.user, 0o4700) | bits(who.group, 0o2070) | bits(who.other, 0o1007),
        };
        let wanted = self.permissions;
        let executes = wanted.execute || (wanted.execute_if && (is_directory || mode & EXECUTE != 0));
        let like =
            bits(wanted.like.user, mode >> 6) | bits(wanted.like.group, mode >> 3) | bits(wanted.like.other, mode);
        let like = (like & 0o7) * 0o111;
        let value = affected
            & (like
                | bits(wanted.read, READ)
                | bits(wanted.write, WRITE)
                | bits(executes, EXECUTE)
                | bits(wanted.set_id, SET_ID)
                | bits(wanted.sticky, STICKY));
        match self.operator {
            ModeOperator::Add => mode | value,
            ModeOperator::Remove => mode & !value,
            ModeOperator::Assign => {
                // A directory keeps its setuid and setgid bits unless a clause names them (coreutils manual, 27.4).
                let kept = if is_directory && !wanted.set_id { SET_ID } else { 0 };
                (mode & (!affected | kept)) | value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> ModeChange {
        let clauses = text.split(',').map(|clause| {
            let at = clause.find(['+', '-', '=']).unwrap();
            let (who, what) = (&clause[..at], &clause[at + 1..]);
            let has = |letter| who.contains(letter) || who.contains('a');
            ModeClause {
                who: Who { user: has('u'), group: has('g'), other: has('o') },
                operator: match &clause[at..=at] {
                    "+" => ModeOperator::Add,
                    "-" => ModeOperator::Remove,
                    _ => ModeOperator::Assign,
                },
                permissions: ModePermissions {
                    read: what.contains('r'),
                    write: what.contains('w'),
                    execute: what.contains('x'),
                    execute_if: what.contains('X'),
                    set_id: what.contains('s'),
                    sticky: what.contains('t'),
                    like: Who { user: what.contains('u'), group: what.contains('g'), other: what.contains('o') },
                },
            }
        });
        ModeChange::Symbolic(clauses.collect())
    }

    #[test]
    fn symbolic_modes_mean_what_chmod_means() {
        // The last column is what chmod 9.1 answers.
        for (text, mode, is_directory, expected) in [
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o777, false, 0o700),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o600, true, 0o711),
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("a-x,a+X", 0o755, false, 0o644),
            ("+w", 0o444, false, 0o666),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("o+s", 0o755, false, 0o755),
            ("u+t", 0o755, true, 0o755),
            ("+t", 0o755, true, 0o1755),
            ("o+t", 0o755, true, 0o1755),
            ("u=rwx", 0o4755, true, 0o4755),
            ("u=rwx", 0o4755, false, 0o755),
            ("ug=s", 0o755, true, 0o6005),
            ("a=r", 0o7777, false, 0o444),
            ("a=r", 0o7777, true, 0o6444),
            ("g=u", 0o640, false, 0o660),
            ("go=u", 0o750, true, 0o777),
            ("o+g", 0o651, false, 0o655),
            ("u-o", 0o754, false, 0o354),
        ] {
            assert_eq!(change(text).apply(mode, is_directory), expected, "{text} {mode:o} {is_directory}");
        }
    }

    #[test]
    fn octal_modes_replace_all_bits() {
        assert_eq!(ModeChange::Exact(0o640).apply(0o6755, true), 0o640);
    }
}
