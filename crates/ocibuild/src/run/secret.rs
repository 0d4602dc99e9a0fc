//! Secrets: from where the caller has them to memory of the step, and nowhere else.

use ocibuild_executor::{MemoryFile, Private, memory_directory};
use ocibuild_plan::StepMount;
use ocibuild_snapshot::MountPointKind;

use super::mounts::Mounts;
use crate::error::Error;
use crate::failure::RunFailure;
use crate::secret::secret_value;

impl Mounts<'_, '_> {
    pub(super) fn secret(&mut self, mount: &StepMount) -> Result<(), Error> {
        let Some(secret) = self.context.settings.secrets.get(&mount.id) else {
            if mount.required {
                let given = self.context.settings.secrets.keys().map(String::as_str);
                let nearest = ocibuild_dockerfile::nearest(&mount.id, given).map(str::to_owned);
                return Err(RunFailure::SecretNotFound { id: mount.id.clone(), nearest }.into());
            }
            self.env.extend(mount.env.iter().map(|name| (name.clone(), String::new())));
            return Ok(());
        };
        let value = secret_value(secret, &mount.id)?;
        if let Some(name) = &mount.env {
            self.env.push((name.clone(), text_of(&value, &mount.id)?));
        }
        if mount.as_file {
            let path = memory_directory(&self.state).join(format!("secret-{}", self.memory_files.len()));
            let file = MemoryFile {
                path: path.clone(),
                content: value,
                mode: mount.mode.unwrap_or(0o400),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
            };
            let mut options = vec!["bind", "ro", "nosuid", "nodev"];
            if !file.is_executable() {
                options.push("noexec");
            }
            self.add(&mount.target, "bind", &path, &options, MountPointKind::File);
            self.memory_files.push(file);
        }
        Ok(())
    }
}

/// The value for a variable. What is wrong with it is said without it.
fn text_of(value: &Private, id: &str) -> Result<String, Error> {
    let not_text = |has_nul| RunFailure::SecretNotText { id: id.to_owned(), has_nul };
    let text = std::str::from_utf8(value.bytes()).map_err(|_| not_text(false))?;
    if text.contains('\0') {
        return Err(not_text(true).into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_variables_are_not_repeated() {
        for bytes in [b"canary\0x".to_vec(), b"canary\xff".to_vec()] {
            let error = text_of(&Private::from(bytes), "id").unwrap_err();
            assert!(error.to_string().contains("secret id") && !format!("{error:?}").contains("canary"));
        }
        assert_eq!(text_of(&Private::from(b"a\r\n".to_vec()), "id").unwrap(), "a\r\n");
    }
}
