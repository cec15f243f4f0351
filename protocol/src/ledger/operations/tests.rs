use super::*;
use crate::wire::codec::from_slice;

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).expect("a key")
}

fn value(text: &str) -> Value {
    Value::new(text.to_owned()).expect("a value")
}

fn put(text: &str) -> Operation {
    Operation::Put(Put { key: key(text), value: value("v") })
}

fn swap(left: &str, right: &str) -> Operation {
    Operation::Swap(Swap { left: key(left), right: key(right) })
}

fn transaction(operations: Vec<Operation>) -> Transaction {
    Transaction { id: TransferId(1), conditions: Vec::new(), operations }
}

fn decodes(transaction: &Transaction) -> bool {
    from_slice::<Transaction>(&to_vec(transaction)).is_ok()
}

#[test]
fn keys_and_values_have_their_limits() {
    assert!(Key::new(vec![b'k'; KEY_LIMIT]).is_some());
    assert!(Key::new(vec![b'k'; KEY_LIMIT + 1]).is_none());
    assert!(Key::new(Vec::new()).is_none());
    assert!(Value::new(vec![0; VALUE_LIMIT]).is_some());
    assert!(Value::new(vec![0; VALUE_LIMIT + 1]).is_none());
    let (mut bytes, mut long) = (Vec::new(), Vec::new());
    encode_bin(&mut bytes, &vec![b'k'; KEY_LIMIT + 1]);
    assert!(from_slice::<Key>(&bytes).is_err());
    encode_bin(&mut long, &vec![0; VALUE_LIMIT + 1]);
    assert!(from_slice::<Value>(&long).is_err());
}

#[test]
fn a_transaction_has_at_most_1024_conditions_and_operations() {
    let many = |count: usize| transaction((0..count).map(|n| put(&format!("k{n}"))).collect());
    assert!(decodes(&many(OPERATIONS_LIMIT)));
    assert!(!decodes(&many(OPERATIONS_LIMIT + 1)));
    let condition = Condition::Is(KeyIs { key: key("k"), value: None });
    let both = |operations: usize| Transaction { conditions: vec![condition.clone()], ..many(operations) };
    assert!(decodes(&both(OPERATIONS_LIMIT - 1)));
    assert!(!decodes(&both(OPERATIONS_LIMIT)));
    assert!(!decodes(&transaction(Vec::new())), "one that says nothing is none");
}

#[test]
fn a_swapped_key_is_not_written_otherwise() {
    assert!(decodes(&transaction(vec![swap("a", "b"), Operation::Get(key("a"))])));
    assert!(!decodes(&transaction(vec![swap("a", "b"), put("b")])));
    assert!(!decodes(&transaction(vec![swap("a", "b"), swap("b", "c")])));
    assert!(!decodes(&transaction(vec![swap("a", "a")])));
}

#[test]
fn a_scan_stays_within_a_part() {
    let scan = |from: &str, to: &str| Operation::Scan(Scan { from: key(from), to: Some(key(to)), limit: 10 });
    assert!(decodes(&transaction(vec![scan("user/1", "user/9")])));
    assert!(!decodes(&transaction(vec![scan("user/1", "users/9")])));
    let Operation::Scan(all) = scan("user", "user/9") else { panic!("a scan") };
    assert!(all.covers(&key("user")) && all.covers(&key("user/8")));
    assert!(!all.covers(&key("user!")) && !all.covers(&key("user/9")), "another part, and the end");
}

#[test]
fn transfers_within_a_transaction_have_different_ids_or_none() {
    let transfer = |id: u128, credit: u128| {
        Operation::Transfer(Transfer {
            id: TransferId(id),
            debit: AccountId(1),
            credit: AccountId(credit),
            amount: 1,
            ..Transfer::default()
        })
    };
    assert!(decodes(&transaction(vec![transfer(5, 2), transfer(6, 2)])));
    assert!(decodes(&transaction(vec![transfer(0, 2), transfer(0, 3)])));
    assert!(!decodes(&transaction(vec![transfer(5, 2), transfer(5, 3)])));
    assert!(!decodes(&transaction(vec![transfer(1, 2)])), "that is the transaction's own id");
}

#[test]
fn a_number_has_one_form() {
    assert_eq!(value("-7").number(), Some(-7));
    assert_eq!(Value::from(i64::MIN).number(), Some(i64::MIN));
    for text in ["", "+7", "07", "-0", " 7", "7.0", "9223372036854775808"] {
        assert_eq!(value(text).number(), None, "{text}");
    }
}

#[test]
fn signed_numbers_have_their_shortest_form_only() {
    let numbers = [0, 1, 127, 128, 65_536, i64::MAX, -1, -32, -33, -128, -129, -32_768, -32_769, i64::MIN];
    for number in numbers {
        assert_eq!(from_slice::<i64>(&to_vec(&number)), Ok(number));
    }
    for longer in [&[0xd0, 0xff][..], &[0xd1, 0xff, 0x80], &[0xd2, 0xff, 0xff, 0x80, 0x00], &[0xd0, 0x05]] {
        assert!(from_slice::<i64>(longer).is_err(), "{longer:x?}");
    }
}
