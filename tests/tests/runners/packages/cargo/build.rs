use std::{env, fs, path::Path};

fn main() {
    let file = Path::new(&env::var_os("OUT_DIR").unwrap()).join("squares.rs");
    let squares: Vec<String> = (0..100_u32).map(|n| (n * n).to_string()).collect();
    fs::write(file, format!("const SQUARES: [u32; 100] = [{}];", squares.join(", "))).unwrap();
}
