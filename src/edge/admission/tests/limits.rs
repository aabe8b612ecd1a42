use super::*;

fn nested(depth: usize) -> String {
    format!("{{ tenant(id: 1) {}{{ id }}{} }}", "{ parent ".repeat(depth - 2), "}".repeat(depth - 2))
}

#[test]
fn what_is_at_a_limit_passes_and_one_more_does_not() {
    let inside = |part: &str, count: usize| format!("{{ me {{ {} }} }}", part.repeat(count));
    for (name, part, most) in [
        ("aliases", "a: id ", 30),
        ("expanded_selections", "id ", 999),
        ("directives", "id @a ", 20),
        ("directives", "@a", 4),
    ] {
        let document = |count| {
            if part == "@a" {
                inside("id ", 1).replace("id", &format!("id {}", part.repeat(count)))
            } else {
                inside(part, count)
            }
        };
        assert!(admit(&document(most)).is_ok(), "{name}");
        assert_eq!(limit(&document(most + 1)), name);
    }
    assert!(admit(&nested(15)).is_ok());
    assert_eq!(limit(&nested(16)), "depth");
    assert_eq!(limit(&format!("mutation {{ {} }}", "name ".repeat(21))), "root_fields");
    assert_eq!(limit(&"{ me { id } } # ".repeat(5_000)), "document_bytes");
    assert_eq!(limit(&format!("{{ me(a: [{}]) {{ id }} }}", "1 ".repeat(4_000))), "tokens");
}

#[test]
fn aliases_count_where_their_fragment_is_spread() {
    assert_eq!(
        limit(&format!("{{ {} }} fragment F on Query {{ a: __typename b: __typename }}", "...F ".repeat(16))),
        "aliases"
    );
}

#[test]
fn an_operation_that_is_not_asked_for_is_measured_too() {
    let query = format!("query A {{ me {{ id }} }} query B {{ {} }}", "...F ".repeat(501))
        + "fragment F on Query { __typename }";
    let error = admission().admit(&query, Some("A"), &Variables::default()).unwrap_err();
    assert_eq!(error.details().unwrap(), &json!({ "limit": "expanded_selections", "found": 1_002, "allowed": 1_000 }));
}

#[test]
fn fragments_are_defined_and_free_of_cycles() {
    assert_eq!(refusal("{ ...F }").message(), "the document spreads a fragment `F` that it does not define");
    assert_eq!(
        refusal("{ me { id } } fragment F on Query { ...F }").message(),
        "the document has a fragment `F` that contains itself"
    );
}

#[test]
fn a_refusal_is_short_and_says_where() {
    assert_eq!(
        refusal("{\n  tenant(id: ) }").message(),
        "the document is not valid GraphQL at line 2, column 14, near `) }`"
    );
    assert_eq!(refusal("{ a ").message(), "the document is not valid GraphQL at line 1, column 5, near the end");
    assert_eq!(
        refusal("{ a(b: \"c) }").message(),
        "the document is not valid GraphQL at line 1, column 8: the string does not end"
    );
    assert_eq!(refusal("# nothing").kind(), Kind::InvalidInput);
    assert!(refusal(&format!("{{ ...{} }}", "x".repeat(9_000))).message().len() < 120);
    for query in
        ["", "{ a } { b }", "query A { a } query A { b }", "{ a } fragment F on Query { b } fragment F on Query { c }"]
    {
        refusal(query);
    }
    refusal(&format!("{{ {} }}", "n".repeat(129)));
    refusal("{ a(b: 01) }");
}

#[test]
fn brackets_in_strings_and_comments_do_not_nest() {
    let brackets = "{[(".repeat(100);
    assert!(
        admit(&format!("{{ a(b: \"\\\"{brackets}\", c: \"\"\"\\\"\"\"{brackets}\"\"\") # {brackets}\n }}")).is_ok()
    );
}

#[test]
fn deep_brackets_never_reach_the_parser() {
    for open in ["{", "[", "(", "{a", "{a(b:["] {
        for prefix in ["", "{a(b:", "query($a:", "{...on A"] {
            assert_eq!(
                limit(&format!("{prefix}{}", open.repeat(60_000 / open.len()))).replace("tokens", "depth"),
                "depth"
            );
        }
    }
}

#[test]
fn the_deepest_brackets_that_pass_fit_a_small_stack() {
    let parse = || {
        for (open, close) in [("{a", "}"), ("{...", "}"), ("{c(d:1)@e", "}")] {
            assert_eq!(limit(&format!("{}{{a}}{}", open.repeat(47), close.repeat(47))), "depth");
        }
        for (open, close, times) in [("[", "]", 46), ("{c:", "}", 46), ("{c:[", "]}", 23)] {
            assert!(admit(&format!("{{a(b:{}1{})}}", open.repeat(times), close.repeat(times))).is_ok());
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(parse).unwrap().join().unwrap();
}
