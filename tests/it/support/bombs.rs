//! GraphQL documents made to hurt: each is small to send and, without admission, large to parse, validate or execute.
//! They need no schema but root types with their usual names. Self-contained, so that unit tests can include it.

/// About 200 documents, the same for the same seed. The name says what each attacks and how large it is.
pub(crate) fn bombs(seed: u64) -> Vec<(String, String)> {
    let mut bombs = vec![
        ("fragment chain of 833 bytes".to_owned(), chain_of_bytes(833)),
        ("fragment chain of 1339 bytes".to_owned(), chain_of_bytes(1_339)),
        // async-graphql's parser overflows a thread's stack on it, and the process is gone.
        ("list literals of 4 KB".to_owned(), format!("{{a(b:{}{})}}", "[".repeat(2_000), "]".repeat(2_000))),
    ];
    let mut random = Random(seed | 1);
    for (kind, most, make) in KINDS {
        for _ in 0..4 {
            let size = random.between(most / 20 + 2, *most);
            bombs.push((format!("{kind} of {size}"), make(size)));
        }
    }
    bombs
}

type Kind = (&'static str, usize, fn(usize) -> String);

/// Kind, largest size, and the document of that size.
const KINDS: &[Kind] = &[
    ("fragment chain, twice each", 60, |n| chain(n, 2)),
    ("fragment chain, nine times each", 60, |n| chain(n, 9)),
    ("fragment chain under fields", 28, fields_chain),
    ("fragment chain under inline fragments", 60, inline_chain),
    ("fragments in a row", 900, |n| chain(n, 1)),
    ("fragments unused", 900, |n| {
        format!("{{__typename}}{}", many(n, |i| format!("fragment F{i} on Query{{__typename}}")))
    }),
    ("fragment cycle", 400, cycle),
    ("aliases", 1_500, |n| format!("{{{}}}", many(n, |i| format!("a{i}:__typename ")))),
    ("aliases in fragments", 60, |n| {
        format!("{{{}}}fragment F on Query{{a:__typename b:__typename}}", "...F ".repeat(n))
    }),
    ("one field again", 7_000, |n| format!("{{{}}}", "__typename ".repeat(n))),
    ("unknown fields", 7_000, |n| format!("{{{}}}", many(n, |i| format!("f{i} ")))),
    ("depth", 2_000, |n| format!("{}a{}", "{a".repeat(n), "}".repeat(n))),
    ("inline fragments", 2_000, |n| format!("{{{}__typename{}}}", "...{".repeat(n), "}".repeat(n))),
    ("open braces", 60_000, |n| "{".repeat(n)),
    ("open selections", 20_000, |n| "{a".repeat(n)),
    ("open brackets", 60_000, |n| format!("{{a(b:{}", "[".repeat(n))),
    ("open objects", 15_000, |n| format!("{{a(b:{}", "{c:".repeat(n))),
    ("list literals", 30_000, |n| format!("{{a(b:{}{})}}", "[".repeat(n), "]".repeat(n))),
    ("object literals", 10_000, |n| format!("{{a(b:{}1{})}}", "{c:".repeat(n), "}".repeat(n))),
    ("list types", 20_000, |n| format!("query($a:{}Int{}){{a(b:$a)}}", "[".repeat(n), "]".repeat(n))),
    ("directives in one place", 3_000, |n| format!("{{__typename {}}}", "@skip(if:false)".repeat(n))),
    ("directives everywhere", 2_000, |n| format!("{{{}}}", "__typename@a ".repeat(n))),
    ("directives on an operation", 9_000, |n| format!("query {}{{__typename}}", "@a ".repeat(n))),
    ("variables", 2_000, |n| format!("query({}){{__typename}}", many(n, |i| format!("$v{i}:Int=1 ")))),
    ("arguments", 2_500, |n| format!("{{a({0})a({0})}}", many(n / 2, |i| format!("b{i}:1 ")))),
    ("operations", 1_000, |n| many(n, |i| format!("query Q{i}{{__typename}}"))),
    ("operations with one large fragment", 80, large_operations),
    ("root fields of a mutation", 5_000, |n| format!("mutation{{{}}}", "__typename ".repeat(n))),
    ("root fields of a subscription", 5_000, |n| format!("subscription{{{}}}", "__typename ".repeat(n))),
    ("introspection lists", 8, |n| {
        format!("{{__schema{{types{}{{name}}{}}}}}", "{fields{type".repeat(n), "}}".repeat(n))
    }),
    ("introspection side by side", 400, |n| format!("{{__schema{{{}}}}}", "types{fields{args{name}}}".repeat(n))),
    ("long string", 60_000, |n| format!("{{a(b:\"{}\")}}", "x".repeat(n))),
    ("long block string", 60_000, |n| format!("{{a(b:\"\"\"{}\"\"\")}}", "\\\"\"\"".repeat(n / 4))),
    ("strings that do not end", 60_000, |n| format!("{{a(b:[{}", "\"\"\"\\".repeat(n / 4))),
    ("quotes", 60_000, |n| format!("{{a(b:[{}])}}", "\"".repeat(n))),
    ("comment", 60_000, |n| format!("{{__typename}}#{}", "{".repeat(n))),
    ("comments", 30_000, |n| format!("{{{}__typename}}", "#\n".repeat(n))),
    ("spaces", 60_000, |n| format!("{{{}__typename}}", " ".repeat(n))),
    ("commas and an error", 60_000, |n| format!("{{__typename{}!", ",".repeat(n))),
    ("name", 60_000, |n| format!("{{{}}}", "n".repeat(n))),
    ("zeros", 60_000, |n| format!("{{a(b:[{}])}}", "0".repeat(n))),
    ("digits", 60_000, |n| format!("{{a(b:{})}}", "9".repeat(n))),
    ("minus zeros", 30_000, |n| format!("{{a(b:[{}])}}", "-0".repeat(n))),
    ("nulls without spaces", 15_000, |n| format!("{{a(b:[{}])}}", "null".repeat(n))),
    ("an error at the end", 3_000, |n| format!("{{{}", "a\n".repeat(n))),
    ("NUL", 60_000, |n| format!("{{a{}}}", "\0".repeat(n))),
    ("wide letters", 15_000, |n| format!("{{a{}}}", "\u{1f4a3}".repeat(n))),
    ("bytes", 2_000_000, |n| format!("{{__typename{}}}", " ".repeat(65_536 + n))),
];

/// `length` fragments, each spreading the next `fan` times: `fan`^`length` selections.
fn chain(length: usize, fan: usize) -> String {
    let links = many(length, |i| format!("fragment F{i} on Query{{{}}}", format!("...F{} ", i + 1).repeat(fan)));
    format!("{{...F0}}{links}fragment F{length} on Query{{__typename}}")
}

fn chain_of_bytes(bytes: usize) -> String {
    let longest = (1..).map(|length| chain(length, 2)).take_while(|chain| chain.len() <= bytes).last();
    let chain = longest.unwrap_or_default();
    let padding = " ".repeat(bytes - chain.len());
    chain + &padding
}

fn fields_chain(length: usize) -> String {
    let links = many(length, |i| format!("fragment F{i} on Query{{a{{...F{0}}}b{{...F{0}}}}}", i + 1));
    format!("{{...F0}}{links}fragment F{length} on Query{{__typename}}")
}

fn inline_chain(length: usize) -> String {
    let links = many(length, |i| format!("fragment F{i} on Query{{...{{...F{0}}}... on Query{{...F{0}}}}}", i + 1));
    format!("{{...F0}}{links}fragment F{length} on Query{{__typename}}")
}

fn cycle(length: usize) -> String {
    let links = many(length, |i| format!("fragment F{i} on Query{{...F{} ...F{i}}}", (i + 1) % length));
    format!("{{...F0}}{links}")
}

fn large_operations(count: usize) -> String {
    let operations = many(count, |i| format!("query Q{i}{{...F}}"));
    format!("{operations}fragment F on Query{{{}}}", "__typename ".repeat(900))
}

fn many(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

/// xorshift64: the same everywhere, and good enough to vary sizes.
struct Random(u64);

impl Random {
    fn between(&mut self, least: usize, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let span = u64::try_from(most - least + 1).unwrap_or(1);
        least + usize::try_from(self.0 % span).unwrap_or(0)
    }
}
