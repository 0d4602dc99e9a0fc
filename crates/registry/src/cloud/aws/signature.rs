use ocibuild_spec::Timestamp;
use ring::{digest, hmac};

/// Keys of an identity at AWS.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    /// For keys that end.
    pub(super) session: Option<String>,
}

/// What is signed, and for whom ("Signature Version 4").
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// In the order of their names, which are in lower case.
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// A time as AWS writes it.
pub(super) fn date(seconds: u64) -> String {
    let time = Timestamp::from_seconds(seconds as i64).to_string();
    time.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

impl Signed<'_> {
    /// The `authorization` header.
    pub(super) fn header(&self, keys: &Keys, date: &str) -> String {
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(self.canonical(&names).as_bytes()));
        let key = [day, self.region, self.service, "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", keys.secret).into_bytes(), |key, part| sign(&key, part.as_bytes()));
        let signature = hex(&sign(&key, to_sign.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            keys.id
        )
    }

    fn canonical(&self, names: &str) -> String {
        let mut headers = String::new();
        for (name, value) in self.headers {
            headers.extend([name, ":", value.trim(), "\n"]);
        }
        let (method, path, query) = (self.method, self.path, self.query);
        format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{}", sha256(self.body))
    }
}

fn sign(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn sha256(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's documentation.
    #[test]
    fn the_documented_request_gets_the_documented_signature() {
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
        };
        let date = date(1_440_938_160);
        assert_eq!(date, "20150830T123600Z");
        let signed = Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
                ("host", "iam.amazonaws.com".to_owned()),
                ("x-amz-date", date.clone()),
            ],
            body: b"",
            region: "us-east-1",
            service: "iam",
        };
        assert_eq!(
            signed.header(&keys, &date),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }
}
