//! Instructions that change the config alone (5.3).

use ocibuild_dockerfile::{Command, Healthcheck, InstructionKind, Text, expand};
use ocibuild_spec::{Empty, HealthConfig};

use super::error::PlanError;
use super::expose;
use super::fault::PlanFault;
use super::golang::{duration, parse_int, plain_list, quoted_list};
use super::stage::{StagePlanner, pairs_text};

/// Names of signals, without `SIG`, that `STOPSIGNAL` takes besides those in real time.
pub const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

impl StagePlanner<'_> {
    pub(super) fn configure(&mut self, kind: &InstructionKind, keyword: &str) -> Result<(), PlanError> {
        match kind {
            InstructionKind::Label(pairs) => {
                self.check_legacy(pairs, keyword);
                let pairs = self.expand_pairs(pairs)?;
                self.note(pairs_text("LABEL", &pairs));
                self.state.config.config.labels.extend(pairs);
            }
            InstructionKind::Cmd(command) => {
                self.check_used_once(keyword, |stage| &mut stage.cmd_used);
                self.check_command(keyword, command);
                self.cmd(command);
            }
            InstructionKind::Entrypoint(command) => {
                self.check_used_once(keyword, |stage| &mut stage.entrypoint_used);
                self.check_command(keyword, command);
                self.entrypoint(command);
            }
            InstructionKind::Shell(shell) => {
                self.note(format!("SHELL {}", plain_list(&strings(shell))));
                self.state.config.config.shell = strings(shell);
            }
            InstructionKind::Expose(words) => self.expose(words)?,
            InstructionKind::Volume(paths) => self.volume(paths)?,
            InstructionKind::User(user) => {
                let user = self.expand(user)?;
                self.note(format!("USER {user}"));
                self.state.config.config.user = user;
            }
            InstructionKind::Stopsignal(signal) => self.stop_signal(signal)?,
            InstructionKind::Maintainer(name) => {
                self.note(format!("MAINTAINER {name}"));
                self.state.config.author = name.to_string();
            }
            InstructionKind::Healthcheck(check) => {
                self.check_used_once(keyword, |stage| &mut stage.healthcheck_used);
                self.healthcheck(check);
            }
            InstructionKind::Onbuild(trigger) => self.state.config.config.on_build.push(trigger.to_string()),
            other => {
                return Err(PlanFault::Instruction { instruction: format!("{other:?}") }.into());
            }
        }
        Ok(())
    }

    /// A command line with the shell in effect before it, if it is written as one string (5.304).
    pub(super) fn with_shell(&self, text: &str) -> Vec<String> {
        let mut args = self.shell();
        args.push(text.to_owned());
        args
    }

    /// What `SHELL` says, or is taken to say.
    pub(super) fn shell(&self) -> Vec<String> {
        let shell = &self.state.config.config.shell;
        match (shell.is_empty(), self.state.config.os.as_str()) {
            (false, _) => shell.clone(),
            (true, "windows") => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
            (true, _) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        }
    }

    fn command_line(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Shell(text) => self.with_shell(text),
            Command::Exec(args) => strings(args),
        }
    }

    fn cmd(&mut self, command: &Command) {
        let args = self.command_line(command);
        self.note(format!("CMD {}", quoted_list(&args)));
        self.has_cmd = true;
        let config = &mut self.state.config.config;
        config.cmd = args;
        config.args_escaped = true;
    }

    fn entrypoint(&mut self, command: &Command) {
        let args = self.command_line(command);
        self.note(format!("ENTRYPOINT {}", quoted_list(&args)));
        let config = &mut self.state.config.config;
        config.entrypoint = args;
        if !self.has_cmd {
            config.cmd.clear();
        }
    }

    fn expose(&mut self, words: &[Text]) -> Result<(), PlanError> {
        let mut words = words.to_vec();
        words.sort_unstable();
        let mut expanded = Vec::new();
        for word in &words {
            expanded.extend(expand::expand_words(word, self.settings.escape, &self.state.environment)?.words);
        }
        let ports = expose::ports(&expanded, &mut |rule, message, word| self.report(rule, message, word))?;
        self.note(format!("EXPOSE {}", plain_list(&ports)));
        self.state.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn volume(&mut self, paths: &[Text]) -> Result<(), PlanError> {
        let paths = self.expand_all(paths)?;
        if paths.iter().any(String::is_empty) {
            return Err(PlanFault::EmptyVolume.into());
        }
        self.note(format!("VOLUME {}", plain_list(&paths)));
        self.state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    fn stop_signal(&mut self, signal: &str) -> Result<(), PlanError> {
        let signal = self.expand(signal)?;
        if !is_signal(&signal) {
            let word = signal.clone();
            return Err(PlanError::new(PlanFault::Signal { signal }).word(&word));
        }
        self.note(format!("STOPSIGNAL {signal}"));
        self.state.config.config.stop_signal = signal;
        Ok(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) {
        let health = health_config(check);
        self.note(format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            plain_list(&health.test),
            duration(health.interval),
            duration(health.timeout),
            duration(health.start_period),
            duration(health.start_interval),
            health.retries,
        ));
        self.state.config.config.healthcheck = Some(health);
    }
}

/// Texts that are not part of the Dockerfile any more.
pub(super) fn strings(texts: &[Text]) -> Vec<String> {
    texts.iter().map(Text::to_string).collect()
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    match check {
        Healthcheck::None => HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() },
        Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.to_string()],
                Command::Exec(args) => std::iter::once("CMD".to_owned()).chain(strings(args)).collect(),
            };
            HealthConfig {
                test,
                interval: *interval,
                timeout: *timeout,
                start_period: *start_period,
                start_interval: *start_interval,
                retries: *retries,
            }
        }
    }
}

/// 5.313
fn is_signal(text: &str) -> bool {
    if let Some(number) = parse_int(text) {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, limit: u32| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            rest.parse::<u32>().is_ok_and(|n| (1..=limit).contains(&n) && rest == n.to_string())
        })
    };
    SIGNALS.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || offset("RTMIN+", 15)
        || offset("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn signals_are_numbers_and_names() {
        for good in ["9", "-1", "+3", "INT", "sigquit", "SIGRTMIN+15", "rtmax-14", "RTMIN", "KILL"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["0", "", "SIGBOGUS", "SIG", "RTMIN+16", "RTMAX-15", "RTMIN+01", "RTMIN+0", "SIGSIGINT"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
