use drachma_protocol::ids::{AccountId, NodeId};

use super::{Action, Level, Scenario, ScenarioError};

fn read(text: &str) -> Scenario {
    try_read(text).expect("readable")
}

fn try_read(text: &str) -> Result<Scenario, ScenarioError> {
    let mut scenario = Scenario::default();
    scenario.add("f.csv", text.as_bytes().to_vec()).map(|()| scenario)
}

fn transfer(debit: u128, credit: u128, amount: u128) -> Action {
    Action::Transfer { debit: AccountId(debit), credit: AccountId(credit), amount }
}

fn actions(scenario: &Scenario) -> Vec<Action> {
    (0..scenario.len()).map(|index| scenario.row(index).action).collect()
}

/// The first error of a text: line, column, what was expected and found.
fn error(text: &str) -> (usize, usize, String, String) {
    let error = try_read(text).expect_err("unreadable");
    assert_eq!(error.file, "f.csv");
    (error.line, error.column, error.expected, error.found)
}

const ALL_KINDS: &str = "Set Number,Transactions,Live Nodes\n\
    1,\"(163,  164, 1)\",\"[n1, n2]\"\n,\"(1, 2, 3, ANY)\",\n,(7),\n,\"(7, Quorum)\",\n,F(n3),\n,R(n3),\n,LF,\n";

#[test]
fn every_kind_of_row_is_read() {
    let scenario = read(ALL_KINDS);
    let expected = [
        transfer(163, 164, 1),
        transfer(1, 2, 3),
        Action::Balance(AccountId(7)),
        Action::Balance(AccountId(7)),
        Action::Fail(NodeId(3)),
        Action::Recover(NodeId(3)),
        Action::FailLeader,
    ];
    assert_eq!(actions(&scenario), expected);
    assert_eq!((scenario.row(0).text, scenario.row(0).set, scenario.row(6).index), ("(163,  164, 1)", 1, 6));
    assert_eq!((scenario.row(0).level, scenario.row(1).level), (Level::Linearizable, Level::Any));
    assert_eq!(scenario.sets()[0].live, Some(vec![NodeId(1), NodeId(2)]));
    assert!(scenario.needs_control() && scenario.has_live());
}

#[test]
fn header_crlf_byte_order_mark_and_missing_last_newline_change_nothing() {
    let expected = actions(&read(ALL_KINDS));
    let without_header = ALL_KINDS.split_once('\n').map(|(_, rest)| rest.to_owned()).expect("a header");
    let variants = [
        without_header.clone(),
        ALL_KINDS.replace('\n', "\r\n"),
        format!("\u{feff}{ALL_KINDS}"),
        format!("\u{feff}{}", without_header.replace('\n', "\r\n")),
        ALL_KINDS.trim_end().to_owned(),
        ALL_KINDS.replace("\n,", "\n\n,,,\n,"),
        ALL_KINDS.replace('"', ""),
    ];
    for text in variants {
        assert_eq!(actions(&read(&text)), expected, "{text:?}");
    }
    assert_eq!(read(&ALL_KINDS.replace('\n', "\r\n")).row(0).text, "(163,  164, 1)");
}

#[test]
fn a_cell_may_have_several_transactions_as_in_the_older_form() {
    let text =
        "1,\"(1, 2, 3); (4, 5, 6) ;(7)\",\"[S1, S2, S4]\",\"[S1, S4, S7]\"\n2,\"(8, 9, 1);F(S2)\",\"[S1]\",\"[S1]\"\n";
    let scenario = read(text);
    let expected = [
        transfer(1, 2, 3),
        transfer(4, 5, 6),
        Action::Balance(AccountId(7)),
        transfer(8, 9, 1),
        Action::Fail(NodeId(2)),
    ];
    assert_eq!(actions(&scenario), expected);
    assert_eq!(scenario.row(1).text, "(4, 5, 6)");
    assert_eq!(scenario.sets()[0].contact, [NodeId(1), NodeId(4), NodeId(7)]);
    assert_eq!(scenario.sets()[0].rows, 0..3);
    assert_eq!((scenario.row(3).set, scenario.sets()[1].rows.clone()), (2, 3..5));
}

#[test]
fn the_set_number_is_one_where_the_file_has_none() {
    for text in ["\"(1, 2, 3)\"\nLF\n", "(1, 2, 3)\nLF", ",\"(1, 2, 3)\",\n,LF,\n", "Transactions\n\"(1, 2, 3)\"\nLF\n"]
    {
        let scenario = read(text);
        assert_eq!(actions(&scenario), [transfer(1, 2, 3), Action::FailLeader], "{text:?}");
        assert_eq!((scenario.row(1).set, scenario.sets().len()), (1, 1));
    }
    assert_eq!(read("\"(1, 2, 3)\",[n4]\n").sets()[0].live, Some(vec![NodeId(4)]));
}

#[test]
fn a_set_number_may_stand_on_every_row_and_an_empty_list_means_all_nodes() {
    let scenario = read("1,(1),[]\n1,(2),\n2,(3),\n");
    let sets: Vec<_> = scenario.sets().iter().map(|set| (set.number, set.live.clone(), set.rows.clone())).collect();
    assert_eq!(sets, [(1, Some(Vec::new()), 0..2), (2, None, 2..3)]);
    assert!(!scenario.has_live() && !scenario.needs_control());
}

#[test]
fn a_set_without_rows_still_is_a_set() {
    let scenario = read("1,,\"[n1]\"\n2,(5),\n");
    assert_eq!(scenario.sets()[0].rows, 0..0);
    assert_eq!((scenario.row(0).set, scenario.len()), (2, 1));
}

#[test]
fn the_plain_form_is_known_by_its_header_or_its_first_row() {
    for text in
        ["from,to,amount\n1,2,3\n4,5,6\n", "1,2,3\n4,5,6", "\u{feff}From, To, Amount\r\n 1 , 2,3\r\n\r\n4,5,6\r\n"]
    {
        let scenario = read(text);
        assert_eq!(actions(&scenario), [transfer(1, 2, 3), transfer(4, 5, 6)], "{text:?}");
        assert_eq!((scenario.row(1).text, scenario.row(1).set), ("4,5,6", 1));
    }
    assert_eq!(read("\"1\",\"2\",\"3\"\n").row(0).text, "\"1\",\"2\",\"3\"");
    assert_eq!(read("").len(), 0);
    assert_eq!(read("from,to,amount\n").sets().len(), 1);
}

#[test]
fn numbers_have_up_to_128_bits() {
    let scenario = read("1,2,340282366920938463463374607431768211455\n");
    assert_eq!(scenario.row(0).action, transfer(1, 2, u128::MAX));
    let (line, column, expected, found) = error("1,2,340282366920938463463374607431768211456\n");
    assert_eq!((line, column), (1, 5));
    assert_eq!(expected, "an amount, a whole number from 0 to 2^128-1");
    assert_eq!(found, "`340282366920938463463374607431768211456`");
}

#[test]
fn levels_are_read_in_any_case() {
    let words = ["LINEARIZABLE", "quorum", "ANY", "eventual", "All", "session", "RYW"];
    let text: String = words.iter().map(|word| format!("\"(1, {word})\"\n")).collect();
    let scenario = read(&text);
    let levels: Vec<String> = (0..words.len()).map(|index| scenario.row(index).level.to_string()).collect();
    assert_eq!(levels, ["linearizable", "linearizable", "any", "any", "all", "session", "session"]);
}

#[test]
fn several_files_are_carried_out_one_after_the_other() {
    let mut scenario = Scenario::default();
    scenario.add("a", b"1,2,3\n".to_vec()).expect("readable");
    scenario.add("b", b"1,(7),\n2,(8),\n".to_vec()).expect("readable");
    scenario.add("c", b"4,5,6".to_vec()).expect("readable");
    let rows: Vec<(u64, &str)> = (0..4).map(|index| (scenario.row(index).set, scenario.row(index).text)).collect();
    assert_eq!(rows, [(1, "1,2,3"), (1, "(7)"), (2, "(8)"), (1, "4,5,6")]);
    assert_eq!(scenario.sets().len(), 4);
}

#[test]
fn what_cannot_be_read_is_named_with_line_and_column() {
    let cases: &[(&str, usize, usize, &str, &str)] = &[
        ("1,2,3\n1,x,3\n", 2, 3, "an account", "`x`"),
        ("from,to,amount\n1,x,3\n", 2, 3, "an account", "`x`"),
        ("1,2,3\n1,2\n", 2, 4, "from,to,amount", "nothing"),
        ("1,2,3\n1,2,3,4\n", 2, 7, "nothing after", "`4`"),
        ("1,2,-3\n", 1, 5, "an amount", "`-3`"),
        ("1,2,\n", 1, 5, "an amount", "nothing"),
        ("1,\"(1, 2, x)\",\n", 1, 11, "an amount", "`x`"),
        ("1,\"(1, 2, 3, soon)\",\n", 1, 14, "a level", "`soon`"),
        ("1,\"(1, 2)\",\n", 1, 8, "a level", "`2`"),
        ("1,\"(1, 2, 3, all, 5)\",\n", 1, 19, "a closing parenthesis", "`5`"),
        ("1,\"()\",\n", 1, 5, "an account", "nothing"),
        ("1,\"(1, 2, 3\",\n", 1, 12, "a closing parenthesis", "nothing"),
        ("1,\"(1, 2, 3); G(n1)\",\n", 1, 15, "(from, to, amount)", "`G(n1)`"),
        ("1,F(n),\n", 1, 5, "a node", "`n`"),
        ("1,F(3),\n", 1, 5, "a node", "`3`"),
        ("1,R(),\n", 1, 5, "a node", "nothing"),
        ("1,(1),\n,LE,\n", 2, 2, "(from, to, amount)", "`LE`"),
        ("1,(1),\"[n1, x]\"\n", 1, 13, "a node", "`x`"),
        ("1,(1),\"[n1, n2\"\n", 1, 15, "a closing bracket", "nothing"),
        ("1,(1),\"[n1]\"\n,(2),\"[n2]\"\n", 2, 7, "live nodes on the first row", "`[n2]`"),
        ("one,(1),\n", 1, 1, "a set number", "`one`"),
        ("1,(1),,,x\n", 1, 9, "at most four columns", "`x`"),
        ("1,\"(1)\" x,\n", 1, 9, "a comma after the closing quote", "`x,`"),
        ("1,(1),\n2,\"(2),\n", 2, 3, "a closing quote", "`the end of the file`"),
        ("1,\"(1,\n2, y)\",\n", 2, 4, "an amount", "`y`"),
    ];
    for (text, line, column, expected, found) in cases {
        let wrong = error(text);
        assert_eq!((wrong.0, wrong.1), (*line, *column), "{text:?}: {wrong:?}");
        assert!(wrong.2.starts_with(expected), "{text:?}: {wrong:?}");
        assert_eq!(wrong.3, *found, "{text:?}");
    }
}

#[test]
fn columns_count_characters_and_bytes_that_are_no_text_are_named() {
    assert_eq!(error("1,\"(1); ä\",\n").1, 9);
    let mut scenario = Scenario::default();
    let error = scenario.add("f.csv", b"1,2,3\n1,\xff,3\n".to_vec()).expect_err("unreadable");
    assert_eq!((error.line, error.column, error.found.as_str()), (2, 3, "the byte 0xff"));
}

#[test]
fn a_node_that_does_not_exist_is_named_with_its_place() {
    let known = [NodeId(1), NodeId(2)];
    assert_eq!(read("1,(1),[n1]\n,F(n2),\n").check_nodes(&known), Ok(()));
    let place = |text: &str| {
        let error = read(text).check_nodes(&known).expect_err("unknown");
        (error.line, error.column, error.found)
    };
    assert_eq!(place("1,(1),[n1]\n,F(n3),\n"), (2, 2, "`n3`".to_owned()));
    assert_eq!(place("1,(1),\"[n1, n4]\"\n"), (1, 8, "`n4`".to_owned()));
    assert_eq!(place("1,(1),[n1],[S5]\n"), (1, 12, "`n5`".to_owned()));
}

#[test]
fn a_million_plain_rows_take_little_more_than_the_file() {
    let line = "123,4567,1\n";
    let scenario = read(&line.repeat(100_000));
    assert_eq!(scenario.len(), 100_000);
    assert_eq!(scenario.row(99_999).action, transfer(123, 4567, 1));
    assert_eq!(size_of::<super::Part>(), 8);
}

/// Checks that a file has the rows that its expectation speaks of, and gives the number of its sets.
fn check_expectation(csv: Vec<u8>, expected: &[u8]) -> usize {
    let mut scenario = Scenario::default();
    scenario.add("f.csv", csv).expect("readable");
    let expected: serde_json::Value = serde_json::from_slice(expected).expect("JSON");
    let expected = expected.as_array().expect("an array");
    assert_eq!(scenario.len(), expected.len());
    for (index, object) in expected.iter().enumerate() {
        let row = scenario.row(index);
        assert_eq!(object["row"].as_str(), Some(row.text));
        assert_eq!((object["set"].as_u64(), object["kind"].as_str()), (Some(row.set), Some(row.action.kind())));
    }
    scenario.sets().len()
}

#[test]
fn the_samples_are_readable() {
    let first = include_bytes!("../../samples/first.csv").to_vec();
    assert_eq!(check_expectation(first, include_bytes!("../../samples/first.expected.json")), 2);
    let plain = read(include_str!("../../samples/plain.csv"));
    assert_eq!((plain.len(), plain.row(9).action), (10, transfer(4, 5, 11)));
}

/// The handed-out file lies beside the checkout, or its parents.
#[test]
fn the_handed_out_file_is_read_as_its_expectation_says() {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = |base: &std::path::Path| base.join("shared/data/scenario-3x3.csv");
    let Some(path) = manifest.ancestors().skip(1).map(data).find(|path| path.exists()) else {
        println!("skipped: there is no ../shared/data/scenario-3x3.csv beside this checkout");
        return;
    };
    let csv = std::fs::read(&path).expect("the file can be read");
    let expected = std::fs::read(path.with_file_name("scenario-3x3.expected.json")).expect("the file can be read");
    assert_eq!(check_expectation(csv, &expected), 10);
}

#[test]
fn two_phases_and_chains_are_read() {
    let text = "1,\"PEND(7, 1, 2, 3)\",\n,\"pend(7, 1, 2, 3, 30s, all)\",\n,\"PEND(8, 1, 2, 3, ALL)\",\n\
        ,\"POST(7, 1, 2)\",\n,\"POST(7, 1, 2, 5, session)\",\n,\"Void(7, 1, 2)\",\n\
        ,\"(1, 2, 3) + POST(7, 2, 4) + (4, 5, 6, all)\",\n";
    let scenario = read(text);
    let (debit, credit) = (AccountId(1), AccountId(2));
    let pend = |label, expires| Action::Pend { label, debit, credit, amount: 3, expires };
    let post = |amount| Action::Post { label: 7, debit, credit, amount };
    let expected = [
        pend(7, 0),
        pend(7, 30_000_000),
        pend(8, 0),
        post(None),
        post(Some(5)),
        Action::Void { label: 7, debit, credit },
        Action::Chain,
    ];
    assert_eq!(actions(&scenario), expected);
    let levels: Vec<Level> = (0..scenario.len()).map(|index| scenario.row(index).level).collect();
    let (usual, all) = (Level::Linearizable, Level::All);
    assert_eq!(levels, [usual, all, all, usual, Level::Session, usual, all]);
    let middle = Action::Post { label: 7, debit: AccountId(2), credit: AccountId(4), amount: None };
    assert_eq!(scenario.row(6).members(), [transfer(1, 2, 3), middle, transfer(4, 5, 6)]);
    assert_eq!(scenario.row(0).members(), [pend(7, 0)]);
    assert!(scenario.has_transactions() && !read(ALL_KINDS).has_transactions());
}

#[test]
fn what_is_wrong_in_two_phases_and_chains_is_named_with_its_place() {
    for (row, column, expected) in [
        ("PEND(7, 1, 2)", 9, "PEND(label, from, to, amount)"),
        ("PEND(x, 1, 2, 3)", 9, "a label"),
        ("PEND(18446744073709551616, 1, 2, 3)", 9, "a label"),
        ("PEND(7, 1, 2, 3, 30)", 21, "a duration"),
        ("PEND(7, 1, 2, 3, 30s, all, 1)", 31, "a closing parenthesis"),
        ("POST(7, 1)", 9, "POST(label, from, to)"),
        ("POST(7, 1, 2, 3s)", 18, "an amount"),
        ("VOID(7, 1, 2, 3)", 18, "a level"),
        ("KEEP(7, 1, 2)", 4, "(from, to, amount)"),
        ("(1, 2, 3) + (1)", 16, "(from, to, amount), PEND, POST or VOID in a chain"),
        ("(1, 2, 3) + F(n1)", 16, "(from, to, amount), PEND, POST or VOID in a chain"),
        ("(1, 2, 3, all) + (1, 2, 3)", 4, "a level in the last member"),
        ("(1, 2, 3) +", 15, "(from, to, amount)"),
    ] {
        let wrong = error(&format!("1,\"{row}\",\n"));
        assert_eq!((wrong.0, wrong.1), (1, column), "{row}: {wrong:?}");
        assert!(wrong.2.starts_with(expected), "{row}: {wrong:?}");
    }
}

#[test]
fn a_chain_of_many_members_is_read() {
    let chain = vec!["(1, 2, 3)"; 5_000].join("+");
    assert_eq!(read(&format!("1,\"{chain}\",\n")).row(0).members().len(), 5_000);
}
