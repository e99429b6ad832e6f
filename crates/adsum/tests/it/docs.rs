//! The lengths of programs that the documents state.

/// Returns the lines of the first code block of a language, without hidden ones.
fn block<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = text.find(&format!("\n```{language}")).expect("there is such a block");
    let lines = text[begin + 1..].lines().skip(1).take_while(|line| *line != "```");
    lines.filter(|line| *line != "#" && !line.starts_with("# ")).collect()
}

fn written(lines: &[&str]) -> usize {
    lines.iter().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn presence_with_accounts_takes_at_most_1_3_times_the_lines_of_elixir() {
    let text = include_str!("../../../../docs/side-by-side.md");
    let (elixir, rust) = (block(text, "elixir"), block(text, "rust"));
    assert!(written(&elixir) <= 22, "Elixir's is as short as it is there: {}", written(&elixir));
    assert!(written(&rust) * 10 <= 22 * 13, "{} lines", written(&rust));
    assert!(rust.iter().all(|line| line.len() <= 100), "formatted as Rust is");
}

#[test]
fn the_first_program_is_under_35_lines() {
    let lines = block(include_str!("../../../../README.md"), "rust");
    assert!(lines.len() < 35, "{} lines", lines.len());
}
