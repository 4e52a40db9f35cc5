//! Writes the man pages and the shell completions into a folder: `cargo run --example manual -- FOLDER`. An example,
//! so that the shipped binary carries none of it.

use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| std::io::Error::other("usage: manual FOLDER"))?;
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(headwater::cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = headwater::cli::command();
        clap_complete::generate_to(shell, &mut command, "headwater", &completions)?;
    }
    Ok(())
}
