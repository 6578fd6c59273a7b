use proc_macro::{TokenStream, TokenTree};

#[proc_macro_derive(Named)]
pub fn named(item: TokenStream) -> TokenStream {
    let name = item.into_iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    let name = name.skip_while(|word| word != "struct").nth(1).unwrap();
    format!("impl {name} {{ const NAME: &'static str = \"{name}\"; }}").parse().unwrap()
}
