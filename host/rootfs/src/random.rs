//! Numbers for tests that try many cases: the same in every run.

/// Gives numbers below a limit (xorshift).
pub fn numbers() -> impl FnMut(u64) -> u64 {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    move |limit| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    }
}
