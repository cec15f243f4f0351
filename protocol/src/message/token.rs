//! What a session knows, as a text that can be kept: how far each group is that it has written to or read from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::ids::{ClusterId, GroupId, Slot};
use crate::wire::codec::{from_slice, to_vec, wire_struct};

/// What a token's text begins with: its version.
const HEAD: &str = "drachma-session-1:";
/// The longest text that is looked at: more groups than a cluster can have nodes for.
const LONGEST: usize = 1 << 20;

/// What a session knows of one cluster. It only grows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    cluster: ClusterId,
    slots: BTreeMap<GroupId, Slot>,
}

/// The form of a token within its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenBody {
    /// The cluster; no other one understands the token.
    pub cluster: ClusterId,
    /// The groups, in ascending order, each once.
    pub slots: Vec<GroupSlot>,
}
wire_struct!(TokenBody { cluster, slots });

/// How far a group is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupSlot {
    /// The group.
    pub group: GroupId,
    /// A replica that has applied so much has all that the session knows of.
    pub slot: Slot,
}
wire_struct!(GroupSlot { group, slot });

/// A text is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no session token, which is `{HEAD}` and hexadecimal digits")]
pub struct NoToken;

impl Token {
    /// Of a session that has done nothing yet.
    pub fn new(cluster: ClusterId) -> Token {
        Token { cluster, slots: BTreeMap::new() }
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// How much a replica of the group must have applied.
    pub fn slot(&self, group: GroupId) -> Slot {
        self.slots.get(&group).copied().unwrap_or_default()
    }

    /// The session has seen this position of the group.
    pub fn see(&mut self, group: GroupId, slot: Slot) {
        let known = self.slots.entry(group).or_default();
        *known = slot.max(*known);
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots.iter().map(|(group, slot)| GroupSlot { group: *group, slot: *slot }).collect();
        f.write_str(HEAD)?;
        to_vec(&TokenBody { cluster: self.cluster, slots }).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Token, NoToken> {
        let digits = text.strip_prefix(HEAD).filter(|digits| digits.len() <= LONGEST).ok_or(NoToken)?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(NoToken);
        let pair = |pair: &[u8]| match pair {
            [high, low] => Ok((digit(high)? << 4 | digit(low)?) as u8),
            _ => Err(NoToken),
        };
        let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(pair).collect::<Result<_, NoToken>>()?;
        let body: TokenBody = from_slice(&bytes).map_err(|_| NoToken)?;
        if !body.slots.is_sorted_by(|one, next| one.group < next.group) {
            return Err(NoToken);
        }
        let slots = body.slots.into_iter().map(|known| (known.group, known.slot)).collect();
        Ok(Token { cluster: body.cluster, slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let mut token = Token::new(ClusterId(0x1234_5678_9abc_def0_1234_5678_9abc_def0));
        token.see(GroupId(3), Slot(300));
        token.see(GroupId(1), Slot(7));
        token
    }

    #[test]
    fn a_token_is_read_back_from_its_text() {
        let text = token().to_string();
        assert_eq!(
            text,
            "drachma-session-1:92c410123456789abcdef0123456789abcdef092920107 9203cd012c".replace(' ', "")
        );
        assert_eq!(text.parse(), Ok(token()));
    }

    #[test]
    fn it_only_grows() {
        let mut token = token();
        token.see(GroupId(3), Slot(299));
        assert_eq!((token.slot(GroupId(3)), token.slot(GroupId(2))), (Slot(300), Slot(0)));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token().to_string();
        let unsorted = good.replace("920107", "920407");
        let doubled = good.replace("920107", "920307");
        for bad in [
            "",
            "drachma-session-1:",
            "drachma-session-2:9200",
            &good[1..],
            &good[..good.len() - 1],
            &unsorted,
            &doubled,
        ] {
            assert_eq!(bad.parse::<Token>(), Err(NoToken), "{bad}");
        }
        assert_eq!(format!("{good}00").parse::<Token>(), Err(NoToken));
    }
}
