//! The shell for a step whose image has none. This program is brought into the step for that, and so everything here has to do
//! with what there is: one command a line, with quotes and variables; what is not a command of the shell is a program of the image.

mod files;

use std::ffi::OsStr;
use std::io::{self, BufRead as _, Write as _};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ocibuild::dockerfile::expand::expand_words;
use signal_hook::consts::SIGINT;

use crate::failure::{Outcome, host};

const HELP: &str = "\
cat FILE...            print files
cd [DIR]               change the directory
echo WORD...           print words
env                    print the variables
exit [CODE]            end the shell, and the build
export NAME=VALUE...   set variables
find [PATH]            list everything below a path
head [-n N] FILE...    print the first lines of files
help                   print this
id                     print who this is
ls [-l] [PATH...]      list directories
ps                     list processes
pwd                    print the directory
readlink PATH...       print where links lead
stat PATH...           print what is known of files
Anything else is a program of the image. $NAME, ${NAME}, '...', \"...\" and \\ are as in other shells; there are no pipes and no
redirections.
";

/// What stands between commands in other shells.
const OPERATORS: [&str; 9] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>"];

/// The shell, and what it knows.
struct Shell {
    env: Vec<(String, String)>,
    /// How the last command ended.
    last: u8,
}

/// Reads commands until there are no more, or one ends the shell.
pub(crate) fn run() -> Outcome {
    // It ends what runs, not the shell; programs get the default.
    signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))
        .map_err(|error| host("cannot handle signals", error))?;
    let env = std::env::vars_os();
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let mut shell = Shell { env: env.map(|(name, value)| (text(name), text(value))).collect(), last: 0 };
    let mut input = io::stdin().lock();
    loop {
        let directory = std::env::current_dir().unwrap_or_default();
        let written = print(&format!("{} $ ", directory.display()));
        let mut line = Vec::new();
        let read = written.and_then(|()| input.read_until(b'\n', &mut line));
        if read.map_err(|error| host("cannot read commands", error))? == 0 {
            return Ok(ExitCode::from(shell.last));
        }
        if let Some(code) = shell.line(&String::from_utf8_lossy(&line)) {
            return Ok(ExitCode::from(code));
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

impl Shell {
    /// Carries out a line; gives the code to end with, if it ends the shell.
    fn line(&mut self, line: &str) -> Option<u8> {
        let words = match expand_words(line.trim(), '\\', &self.env) {
            Ok(expanded) => expanded.words,
            Err(error) => {
                self.ended("ocibuild", Err(io::Error::other(error.fault.to_string())));
                return None;
            }
        };
        let (name, args) = words.split_first()?;
        if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
            let error = io::Error::other(format!("{operator}: there are no pipes, lists and redirections"));
            self.ended("ocibuild", Err(error));
        } else if name == "exit" {
            return Some(args.first().and_then(|code| code.parse().ok()).unwrap_or(self.last));
        } else {
            self.command(name, args);
        }
        None
    }

    fn command(&mut self, name: &str, args: &[String]) {
        let result = match name {
            "cat" => files::cat(args),
            "cd" => self.change_directory(args.first()),
            "echo" => print(&format!("{}\n", args.join(" "))),
            "env" => self.env.iter().try_for_each(|(name, value)| print(&format!("{name}={value}\n"))),
            "export" => self.export(args),
            "find" => files::find(args),
            "head" => files::head(args),
            "help" => print(HELP),
            "id" => files::id(),
            "ls" => files::list(args),
            "ps" => files::processes(),
            "pwd" => std::env::current_dir().and_then(|path| print(&format!("{}\n", path.display()))),
            "readlink" => files::links(args),
            "stat" => files::stat(args),
            _ => return self.program(name, args),
        };
        self.ended(name, result);
    }

    /// Tells what went wrong with a command of the shell.
    fn ended(&mut self, name: &str, result: io::Result<()>) {
        self.last = u8::from(result.is_err());
        if let Err(error) = result {
            // A terminal that is gone ends the shell when it reads.
            let _ = print(&format!("{name}: {error}\n"));
        }
    }

    fn program(&mut self, name: &str, args: &[String]) {
        let status = Command::new(name).args(args).env_clear().envs(self.env.iter().cloned()).status();
        match status {
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt as _;
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                self.last = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            }
            Err(error) => {
                self.ended(name, Err(error));
                self.last = 127;
            }
        }
    }

    fn change_directory(&mut self, to: Option<&String>) -> io::Result<()> {
        let home = || self.env.iter().find(|(name, _)| name == "HOME").map(|(_, value)| value.clone());
        let to = to.cloned().or_else(home).unwrap_or_else(|| "/".to_owned());
        std::env::set_current_dir(OsStr::new(&to)).map_err(|error| io::Error::other(format!("{to}: {error}")))
    }

    fn export(&mut self, args: &[String]) -> io::Result<()> {
        for arg in args {
            let (name, value) = arg
                .split_once('=')
                .ok_or_else(|| io::Error::other(format!("{arg}: this is not NAME=VALUE")))?;
            self.env.retain(|(known, _)| known != name);
            self.env.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_and_programs() {
        let mut shell = Shell { env: vec![("A".to_owned(), "two words".to_owned())], last: 0 };
        for (line, last) in [
            ("", 0),
            ("test \"$A\" = 'two words'", 0),
            ("test $A = 'two words'", 2),
            ("export A=5 B=6", 0),
            ("test $A$B = 56", 0),
            ("false", 1),
            ("sh -c 'exit 7'", 7),
            ("sh -c 'kill -9 $$'", 137),
            ("no-such-program", 127),
            ("cat /no/such/file", 1),
            ("echo a > /no/such/file", 1),
            ("echo 'unclosed", 1),
            ("export A", 1),
        ] {
            assert_eq!(shell.line(line), None);
            assert_eq!(shell.last, last, "{line}");
        }
        assert_eq!(shell.line("exit"), Some(1));
        assert_eq!(shell.line("exit 4"), Some(4));
    }

    #[test]
    fn what_the_help_names_are_commands_of_the_shell() {
        let names = HELP
            .lines()
            .take_while(|line| !line.starts_with("Anything"))
            .filter_map(|line| line.split(' ').next());
        let mut count = 0;
        // These end or change this process, or print much.
        for name in names.filter(|name| !["exit", "cd", "ps", "env"].contains(name)) {
            let mut shell = Shell { env: vec![("PATH".to_owned(), "/none".to_owned())], last: 0 };
            shell.line(&format!("{name} /no/such"));
            assert_ne!(shell.last, 127, "{name}");
            count += 1;
        }
        assert_eq!(count, 11);
    }
}
