use std::path::{Path, PathBuf};
use std::process::Command;

/// Certificates made by the `openssl` program, in a directory that goes with this.
#[derive(Debug)]
pub struct Certificates {
    directory: tempfile::TempDir,
}

/// A certificate and its key, as files in PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

impl Certificates {
    /// `None` where there is no `openssl`.
    pub fn new() -> Option<Self> {
        Command::new("openssl").arg("version").output().ok()?;
        Some(Self { directory: tempfile::tempdir().expect("a temporary directory can be made") })
    }

    /// A certificate that vouches for itself, as `openssl req -x509` makes it. `names` is a subjectAltName, like
    /// `IP:127.0.0.1`; without any it has none.
    pub fn self_signed(&self, name: &str, names: &str) -> CertificateFiles {
        let files = self.files(name);
        let names = format!("subjectAltName={names}");
        let mut args = vec!["req", "-x509", "-days", "2", "-subj", "/CN=self-signed"];
        args.extend(NEW_KEY);
        if !names.ends_with('=') {
            args.extend(["-addext", names.as_str()]);
        }
        self.run(&args, &[("-keyout", &files.key), ("-out", &files.certificate)]);
        files
    }

    /// A certificate that vouched for itself, until long ago.
    pub fn expired(&self, name: &str, names: &str) -> CertificateFiles {
        let (files, request) = (self.files(name), self.path(&format!("{name}.csr")));
        self.request(&files, &request);
        let config = self.path(&format!("{name}.cnf"));
        let text = format!(
            "[ca]\ndefault_ca=c\n[c]\nnew_certs_dir={0}\ndatabase={0}/{name}.db\nrand_serial=yes\ndefault_md=sha256\n\
             policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=critical,CA:TRUE\n\
             subjectAltName={names}\n",
            self.directory.path().display()
        );
        fs_err::write(self.path(&format!("{name}.db")), "").expect("the directory can be written");
        fs_err::write(&config, text).expect("the directory can be written");
        let dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"];
        let mut args = vec!["ca", "-batch", "-selfsign", "-notext"];
        args.extend(dates);
        self.run(
            &args,
            &[
                ("-config", &config),
                ("-keyfile", &files.key),
                ("-in", &request),
                ("-out", &files.certificate),
            ],
        );
        files
    }

    /// A certificate that `authority` vouches for; `usage` is `serverAuth` or `clientAuth`.
    pub fn issued(
        &self,
        name: &str,
        authority: &CertificateFiles,
        names: &str,
        usage: &str,
    ) -> CertificateFiles {
        let (files, request) = (self.files(name), self.path(&format!("{name}.csr")));
        self.request(&files, &request);
        let extensions = self.path(&format!("{name}.ext"));
        let text =
            format!("basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName={names}\n");
        fs_err::write(&extensions, text).expect("the directory can be written");
        self.run(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[
                ("-in", &request),
                ("-CA", &authority.certificate),
                ("-CAkey", &authority.key),
                ("-extfile", &extensions),
                ("-out", &files.certificate),
            ],
        );
        files
    }

    fn request(&self, files: &CertificateFiles, request: &Path) {
        let mut args = vec!["req", "-subj", "/CN=server"];
        args.extend(NEW_KEY);
        self.run(&args, &[("-keyout", &files.key), ("-out", request)]);
    }

    fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}-key.pem")),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, args: &[&str], paths: &[(&str, &Path)]) {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.directory.path());
        for (flag, path) in paths {
            command.arg(flag).arg(path);
        }
        let output = command.output().expect("openssl was there before");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
