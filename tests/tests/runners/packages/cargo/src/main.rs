include!(concat!(env!("OUT_DIR"), "/squares.rs"));

#[derive(derive::Named)]
struct Square;

fn main() {
    println!("{} {}", Square::NAME, SQUARES.iter().sum::<u32>());
}
