//! Values in the lines of an environment, an empty line, and a word: no panic, a bounded result, and the same
//! characters whether it is split or not.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use ocibuild_dockerfile::expand::{MAX_WORD_BYTES, expand_heredoc, expand_word, expand_words};

fuzz_target!(|text: &str| {
    let (environment, word) = text.split_once("\n\n").unwrap_or(("A=a*b/a", text));
    let environment: BTreeMap<String, String> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for escape in ['\\', '`'] {
        let one = expand_word(word, escape, &environment);
        let several = expand_words(word, escape, &environment);
        assert_eq!(one.is_ok(), several.is_ok());
        if let Ok(one) = &one {
            assert!(one.value.len() <= MAX_WORD_BYTES);
        }
        if let Err(error) = &one {
            assert_eq!(error.word, word);
        }
    }
    if let Ok(body) = expand_heredoc(word, &environment) {
        assert!(body.value.len() <= MAX_WORD_BYTES);
        assert!(word.contains(['$', '\\', '\u{feff}']) || body.value == word);
    }
});
