//! `context ls`: what is in a context, and why.

use crate::program::Place;

fn place() -> Place {
    let place = Place::new();
    place.write("c/.dockerignore", "# comment\nnode_modules\n*.log\n!keep.log\nlib\n!lib/kept\n");
    for name in ["Dockerfile", "a.txt", "b.log", "keep.log", "node_modules/m/i.js", "lib/kept", "lib/other"] {
        place.write(&format!("c/{name}"), "text");
    }
    place
}

#[test]
fn the_list_is_what_a_copy_takes() {
    let place = place();
    let ended = place.run(&["context", "ls", "c"]);
    let paths: Vec<&str> = ended
        .succeeds()
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .map(|(_, path)| path)
        .collect();
    let expected = [".dockerignore", "Dockerfile", "a.txt", "keep.log", "lib/", "lib/kept", "in 6 entries"];
    assert_eq!(paths, expected);
    let ended = place.run(&["context", "ls", "--format", "json", "c"]);
    let list: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(list["entries"][2], serde_json::json!({ "path": "a.txt", "type": "file", "size": 4 }));
    let sizes =
        list["entries"].as_array().unwrap().iter().map(|entry| entry["size"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(list["size"], sizes);
}

#[test]
fn why_names_the_line_that_decided() {
    let place = place();
    let table = [
        ("a.txt", "a.txt: in the context: no pattern matches it\n"),
        ("b.log", "b.log: not in the context: .dockerignore:3 \"*.log\" matches it\n"),
        ("keep.log", "keep.log: in the context: .dockerignore:4 \"!keep.log\" matches it\n"),
        (
            "node_modules/m/i.js",
            "node_modules/m/i.js: not in the context: .dockerignore:2 \"node_modules\" matches the directory \
             node_modules above it\n",
        ),
        (
            "lib",
            "lib: in the context: .dockerignore:5 \"lib\" matches it; it is included for what is kept below it\n",
        ),
        ("lib/kept", "lib/kept: in the context: .dockerignore:6 \"!lib/kept\" matches it\n"),
        (
            "c/lib/other",
            "lib/other: not in the context: .dockerignore:5 \"lib\" matches the directory lib above it\n",
        ),
        (
            "x.log",
            "x.log: does not exist; it would not be in the context: .dockerignore:3 \"*.log\" matches it\n",
        ),
    ];
    for (path, expected) in table {
        assert_eq!(place.run(&["context", "ls", "--why", path, "c"]).succeeds(), expected);
    }
    let ended = place.run(&["context", "ls", "--why", "b.log", "--format=json", "c"]);
    let verdict: serde_json::Value = serde_json::from_str(ended.succeeds()).unwrap();
    assert_eq!(verdict["in_context"], false);
    assert_eq!(verdict["decided"]["line"], 3);
    assert_eq!(verdict["decided"]["file"], ".dockerignore");
}

#[test]
fn the_ignore_file_of_the_dockerfile_counts() {
    let place = place();
    place.write("c/app.Dockerfile", "FROM scratch\n");
    place.write("c/app.Dockerfile.dockerignore", "a.txt\n");
    let ended = place.run(&["context", "ls", "-f", "c/app.Dockerfile", "--why", "a.txt", "c"]);
    assert!(ended.succeeds().contains("app.Dockerfile.dockerignore:1 \"a.txt\""), "{}", ended.stdout);
    place.run(&["context", "ls", "nowhere"]).fails(2, &["nowhere", "hint:"]);
}
