use proptest::prelude::*;

use super::*;

fn value() -> Value {
    let labels = Value::map([("a", "1"), ("b c", "2")]);
    let config = Value::object(vec![
        Field::new("Cmd", Value::texts(["sh", "-c"])),
        Field::new("OnBuild", Value::texts::<String>([])),
        Field::new("Labels", labels),
        Field::new("Healthcheck", Value::Nil),
        Field::optional("Shell", Value::texts::<String>([])),
    ]);
    Value::object(vec![
        Field::new("ID", "sha256:abcdef"),
        Field::new("Tag", "<none>"),
        Field::new("Size", Value::Int(12)),
        Field::new("Time", Value::Duration(90_500_000_000)),
        Field::new("Config", config),
    ])
}

fn render(template: &str) -> Result<String, Error> {
    Template::parse(template)?.render(&value(), Mode::Rows)
}

#[test]
fn templates_print_what_go_prints() {
    let table = [
        ("plain", "plain"),
        ("{{.ID}} {{ .Size }}", "sha256:abcdef 12"),
        ("{{.Config.Cmd}}{{.Config.OnBuild}}", "[sh -c][]"),
        ("{{.Config.Labels}} {{.Config.Labels.nope}}", "map[a:1 b c:2] <no value>"),
        ("{{.Config.Healthcheck}} {{.Time}}", "<nil> 1m30.5s"),
        (
            "{{json .Config}}",
            r#"{"Cmd":["sh","-c"],"OnBuild":null,"Labels":{"a":"1","b c":"2"},"Healthcheck":null}"#,
        ),
        ("{{json .Tag}}", "\"<none>\""),
        ("{{.Config.Cmd | json}}", r#"["sh","-c"]"#),
        ("{{index .Config.Cmd 0}} {{index .Config.Labels \"b c\"}}", "sh 2"),
        ("{{len .Config.Cmd}} {{len .ID}}", "2 13"),
        ("{{join .Config.Cmd \", \"}}", "sh, -c"),
        ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<sh><-c>"),
        ("{{range $i, $word := .Config.Cmd}}{{$i}}={{$word}};{{end}}", "0=sh;1=-c;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}},{{end}}", "a:1,b c:2,"),
        ("{{range .Config.OnBuild}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Cmd}}{{if eq . \"-c\"}}{{continue}}{{end}}{{$.Size}}{{end}}", "12"),
        ("{{range .Config.Cmd}}{{.}}{{break}}{{end}}", "sh"),
        ("{{if .Config.Healthcheck}}a{{else if .Config.OnBuild}}b{{else}}c{{end}}", "c"),
        ("{{with .Config.Healthcheck}}{{.Test}}{{else}}no check{{end}}", "no check"),
        ("{{with $c := .Config}}{{index $c.Cmd 1}}{{end}}", "-c"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{upper .ID}} {{.ID | upper | lower}}", "SHA256:ABCDEF sha256:abcdef"),
        ("{{title \"hello big world\"}}", "Hello Big World"),
        ("{{truncate .ID 6}}|{{slice .ID 7}}|{{slice .ID 7 9}}", "sha256|abcdef|ab"),
        ("{{index (split .ID \":\") 1}}", "abcdef"),
        ("{{(index .Config.Cmd 0) | printf \"%-4s|\"}}", "sh  |"),
        ("{{printf \"%s-%d %q %05d %t\" .ID .Size .Tag 42 true}}", "sha256:abcdef-12 \"<none>\" 00042 true"),
        ("{{printf \"%d\" .ID}}", "%!d(string=sha256:abcdef)"),
        ("{{println .Size}}x", "12\nx"),
        ("{{print 1 2 \"a\" 3}}", "1 2a3"),
        ("{{pad .Tag 1 2}}|", " <none>  |"),
        ("a  {{- .Size -}}  b {{/* note */}}c{{- /* d */ -}} e", "a12b ce"),
        ("{{\"a\\tb\\u0041\"}}{{`c\\t`}}", "a\tbAc\\t"),
        ("{{and .Size 0 .Nope}} {{or \"\" .Size .Nope}} {{not .Size}}", "0 12 false"),
        ("{{if and (gt .Size 10) (ne .Tag \"x\")}}yes{{end}}", "yes"),
        ("{{eq .Tag \"a\" \"<none>\"}} {{lt 1 2}} {{ge 1 2}}", "true true false"),
    ];
    for (template, expected) in table {
        assert_eq!(
            render(template).unwrap_or_else(|error| panic!("{template}: {error}")),
            expected,
            "{template}"
        );
    }
}

#[test]
fn rows_have_escapes_outside_of_actions() {
    let render = |text: &str, skipped| Template::parse_row(text, skipped)?.render(&value(), Mode::Rows);
    assert_eq!(render("table  {{.Size}}\\t{{.Tag}}\\n ", 5).unwrap(), "12\t<none>\n");
    assert_eq!(render("{{.Size}}\\t {{- .Tag}}{{print \"a\\tb\"}}", 0).unwrap(), "12<none>a\tb");
    let error = render("table {{.Size}}\\t{{.Sise}}", 5).unwrap_err();
    let place = Place::Argument("--format, line 1, column 20".to_owned());
    assert_eq!(error.reports()[0].place, Some(place), "where it was typed");
}

#[test]
fn rows_are_escaped_in_json_as_a_whole() {
    let row = Record::row([("Tag", "<none>".to_owned())]);
    assert_eq!(row.json(), "{\"Tag\":\"\\u003cnone\\u003e\"}");
    let whole = Template::parse("{{json .}} {{json .Tag}}").unwrap();
    assert_eq!(whole.render(&row, Mode::Rows).unwrap(), "{\"Tag\":\"\\u003cnone\\u003e\"} \"<none>\"");
}

#[test]
fn titles_pass_functions_unchanged() {
    let header = Record::row([("ID", "IMAGE ID".to_owned())]);
    let template = Template::parse("{{lower .ID}} {{truncate .ID 3}} {{json .ID}}").unwrap();
    assert_eq!(template.render(&header, Mode::Header).unwrap(), "IMAGE ID IMAGE ID IMAGE ID");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let table = [
        ("{{.Foo}}", 3, "can't evaluate field Foo", "the fields are ID, Tag, Size"),
        ("{{.Sise}}", 3, "can't evaluate field Sise", "did you mean Size?"),
        ("ab {{.Config.Cmdd}}", 13, "can't evaluate field Cmdd", "did you mean Cmd?"),
        ("{{.ID", 1, "unclosed action", "}}"),
        ("{{.ID.x}}", 6, "can't evaluate field x in type string", "no fields"),
        ("{{.Config.Healthcheck.Test}}", 22, "nil pointer evaluating .Test", "with"),
        ("{{uper .ID}}", 3, "function \"uper\" not defined", "did you mean upper?"),
        ("{{template \"x\"}}", 3, "template is not supported", "write the text itself"),
        ("{{if .ID}}x", 3, "if is not closed", "{{end}}"),
        ("{{end}}", 3, "there is nothing open to end here", "remove it"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", 21, "it already has an else", "{{end}}"),
        ("{{index .Config.Cmd 9}}", 3, "error calling index: index out of range: 9", ""),
        ("{{join .ID \",\"}}", 3, "is not a list", "{{join .RepoTags"),
        ("{{truncate .ID}}", 3, "wrong number of args for truncate: want 2, got 1", "truncate .ID 12"),
        ("{{.ID .Tag}}", 7, "can't give argument to non-function", "stands alone"),
        ("{{range .ID}}{{end}}", 3, "range can't iterate over sha256:abcdef", "string"),
        ("{{$x}}", 3, "undefined variable \"$x\"", "$"),
        ("{{.ID | .Tag}}", 9, "what follows | has to be a function", "json"),
        ("{{}}", 3, "missing value for command", "{{.ID}}"),
        ("{{'a'}}", 3, "unexpected '\\''", "double quotes"),
        ("{{\"a}}", 3, "unterminated quoted string", "close"),
        ("{{(len .ID}}", 3, "unclosed left paren", ")"),
        ("{{break}}", 3, "break outside range", "range"),
        ("{{1.5}}", 3, "bad number syntax", "whole"),
    ];
    for (template, column, message, hint) in table {
        let error = render(template).expect_err(template);
        let report = &error.reports()[0];
        let place = format!("--format, line 1, column {column}");
        assert!(report.message.contains(message), "{template}: {}", report.message);
        assert_eq!(report.place, Some(Place::Argument(place)), "{template}");
        assert!(report.hint_texts().concat().contains(hint), "{template}: {:?}", report.hints);
    }
    let deep = "{{if 1}}".repeat(2000);
    assert!(render(&deep).unwrap_err().to_string().contains("nested"));
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(2000), ")".repeat(2000));
    assert!(render(&deep).unwrap_err().to_string().contains("nested"));
}

#[test]
fn loops_end_before_the_memory_does() {
    for template in [
        "{{range 9223372036854775807}}{{end}}",
        "{{range 1000000}}{{range 1000000}}x{{end}}{{end}}",
        "{{$x := \"ab\"}}{{range 60}}{{$x = print $x $x}}{{end}}{{$x}}",
        "{{$x := \"\\x01\"}}{{range 60}}{{$x = json (print $x $x)}}{{end}}",
        "{{$x := printf \"%9999d\" 1}}{{range 40}}{{$x = join (split $x \"\") $x}}{{end}}",
        "{{$f := printf \"%9999d\" 1}}{{range 20}}{{$f = print $f \"%9999s\" $f}}{{end}}{{printf $f}}",
        "{{range 99999999}}{{pad \"x\" 1000 1000}}{{end}}",
    ] {
        let error = render(template).unwrap_err().to_string();
        assert!(error.contains("more than 64 MiB"), "{template}: {error}");
    }
    assert_eq!(render("{{range 20000}}x{{end}}").unwrap().len(), 20_000);
}

/// What actions are made of, and what breaks them.
fn words() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        ".",
        ".ID",
        ".Size",
        ".Config",
        ".Config.Cmd",
        ".Config.Labels",
        ".Config.Labels.a",
        ".Time",
        ".nope",
        "$",
        "$x",
        "$.Tag",
        "0",
        "1",
        "-1",
        "+7",
        "9223372036854775807",
        "1.5",
        "true",
        "nil",
        "\"\"",
        "\"%v %5d|%-9999s|%.2s%%%q\"",
        "\"a\\n\\u00e9\"",
        "`é/b`",
        "\"unclosed",
        "`",
        "'",
        "|",
        "(",
        ")",
        ",",
        ":=",
        "=",
        "$x :=",
        "$k, $v :=",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "continue",
        "define",
    ]);
    let function = prop::sample::select(functions::FUNCTIONS.to_vec());
    prop_oneof![6 => known.prop_map(str::to_owned), 4 => function.prop_map(str::to_owned), 1 => "\\PC{0,4}"]
}

/// Pieces in any order: most of them are not templates.
fn pieces() -> impl Strategy<Value = String> {
    let action = prop::collection::vec(words(), 0..6).prop_map(|words| words.join(" "));
    let action = (
        action,
        prop::sample::select(vec!["{{", "{{- ", "{{/*"]),
        prop::sample::select(vec!["}}", " -}}", "*/}}"]),
    );
    let action = action.prop_map(|(words, open, close)| format!("{open}{words}{close}"));
    let text = prop_oneof![Just("x\\ty \n".to_owned()), "\\PC{0,8}", "[{}/*\"`.$ -]{0,8}"];
    prop::collection::vec(prop_oneof![3 => action, 1 => text], 0..8).prop_map(|parts| parts.concat())
}

/// Calls in calls: most of them can be read.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        ".",
        "$",
        ".ID",
        ".Size",
        ".Config",
        ".Config.Cmd",
        ".Config.Labels",
        ".Time",
        "0",
        "7",
        "-1",
        "\"\"",
        "\"%s/é\"",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let function = prop::sample::select(functions::FUNCTIONS.to_vec());
        (function, prop::collection::vec(inner, 0..4))
            .prop_map(|(name, arguments)| format!("({name} {})", arguments.join(" ")))
    })
}

/// Blocks in blocks: all of them can be read, and most of them evaluated up to some call.
fn blocks() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("text ".to_owned()),
        expressions().prop_map(|value| format!("{{{{{value}}}}}")),
        expressions().prop_map(|value| format!("{{{{$x = {value}}}}}{{{{$x}}}}")),
    ];
    let blocks = leaf.prop_recursive(4, 24, 4, |inner| {
        let head = prop::sample::select(vec!["if", "with", "range", "range $k, $v :=", "with $x :="]);
        let body = prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| parts.concat());
        (head, expressions(), body, inner).prop_map(|(head, value, body, otherwise)| {
            format!("{{{{{head} {value}}}}}{body}{{{{else}}}}{otherwise}{{{{end}}}}")
        })
    });
    blocks.prop_map(|blocks| format!("{{{{$x := 1}}}}{blocks}"))
}

proptest! {
    #[test]
    fn no_template_does_more_than_print_or_fail(template in prop_oneof![pieces(), blocks()]) {
        for parsed in [Template::parse(&template), Template::parse_row(&template, 0)] {
            let rendered = |mode| parsed.as_ref().ok().map(|parsed| parsed.render(&value(), mode));
            for rendered in [rendered(Mode::Rows), rendered(Mode::Header)].into_iter().flatten() {
                match rendered {
                    Ok(text) => prop_assert!(text.len() <= eval::MAX_WORK),
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }
    }

    #[test]
    fn blocks_can_be_read(template in blocks()) {
        prop_assert!(Template::parse(&template).is_ok(), "{template}");
    }
}
