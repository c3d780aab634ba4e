//! Text from events, made safe to show: bounded, and without a character that acts instead of
//! being seen.
//!
//! An alert is read in terminals, mail and dashboards, and the person it accuses chose some of its
//! text. JSON escapes vanish when the JSON is read, so the escapes here are visible: `\u{1b}`.
//! They keep texts apart: `\u{` in the text itself is escaped too, so no two texts look alike.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Longest name shown: principals, keys, objects, in characters.
pub const NAME_MAX: usize = 256;
/// Longest id or address shown, in characters.
pub const ID_MAX: usize = 128;
/// Longest title shown, in characters.
pub const TITLE_MAX: usize = 200;
/// Longest sentence shown, in characters.
pub const SENTENCE_MAX: usize = 1000;
/// Most entries of each list of evidence that are shown.
pub const LIST_MAX: usize = 10;

/// What a shortened text ends with.
const ELLIPSIS: char = '…';

/// `text` with dangerous characters escaped and at most `max` characters long after that; a
/// shortened text ends with `…`.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    // Most texts are shorter than their bound and need no escape.
    let mut out = String::with_capacity(text.len().min(max));
    let mut rest = text.chars();
    let (mut length, mut cut_at) = (0, 0);
    while let Some(c) = rest.next() {
        let before = out.len();
        if is_dangerous(c) || (c == '\\' && rest.as_str().starts_with("u{")) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        length += out[before..].chars().count();
        if length > max {
            out.truncate(cut_at);
            out.push(ELLIPSIS);
            return out;
        }
        if length < max {
            cut_at = out.len();
        }
    }
    out
}

/// [`shown`] for a group key. Two keys stay two: a shortened one ends with a hash of the whole.
#[must_use]
pub fn shown_key(key: &str) -> String {
    const HASH_CHARS: usize = 17;
    let short = shown(key, NAME_MAX);
    if !short.ends_with(ELLIPSIS) || shown(key, usize::MAX) == short {
        return short;
    }
    let mut hasher = SipHasher13::new_with_keys(0x6578_6669_6c77_6174, 0x6368_2e61_2e6b_6579);
    hasher.write(key.as_bytes());
    format!("{}#{:016x}", shown(key, NAME_MAX - HASH_CHARS), hasher.finish())
}

/// Characters that move the cursor, hide or reorder others, or open a tag.
#[must_use]
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '<' | '>' | '&')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}'    // soft hyphen, joiner, Arabic mark
            | '\u{200b}'..='\u{200f}'                        // zero width, direction marks
            | '\u{2028}'..='\u{202e}'                        // line ends, embeddings, overrides
            | '\u{2060}'..='\u{206f}'                        // joiners, isolates
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'           // byte order mark, annotations
            | '\u{e0000}'..='\u{e007f}') // tags
}

/// `n` as people read it: `68,000`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_shown_as_they_are() {
        for name in ["jdoe", "CORP\\jdoe", "Jürgen Müller", "李雷", "o'brien@example.com", "a\\u"]
        {
            assert_eq!(shown(name, NAME_MAX), name);
            assert_eq!(shown_key(name), name);
        }
    }

    #[test]
    fn what_acts_in_a_terminal_or_browser_is_shown_instead() {
        for (hostile, safe) in [
            ("a\r\nb", r"a\u{d}\u{a}b"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("\u{202e}eodj", r"\u{202e}eodj"),
            ("\u{85}", r"\u{85}"),
            ("<img src=x onerror=alert(1)>", r"\u{3c}img src=x onerror=alert(1)\u{3e}"),
            ("&lt;", r"\u{26}lt;"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(shown(hostile, NAME_MAX), safe);
        }
    }

    #[test]
    fn an_escape_written_by_the_sender_differs_from_ours() {
        assert_eq!(shown(r"\u{1b}", NAME_MAX), r"\u{5c}u{1b}");
        assert_ne!(shown(r"\u{1b}", NAME_MAX), shown("\u{1b}", NAME_MAX));
    }

    #[test]
    fn text_at_the_bound_is_whole_and_one_more_is_shortened() {
        assert_eq!(shown("abcd", 4), "abcd");
        assert_eq!(shown("abcde", 4), "abc…");
        // No escape is cut in half.
        assert_eq!(shown("ab\u{1b}", 4), "ab…");
    }

    #[test]
    fn long_keys_that_begin_alike_stay_apart() {
        let long = "x".repeat(NAME_MAX);
        assert_eq!(shown_key(&long), long);
        let (one, two) = (shown_key(&format!("{long}1")), shown_key(&format!("{long}2")));
        assert_ne!(one, two);
        assert!(one.chars().count() <= NAME_MAX);
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (68_000, "68,000")] {
            assert_eq!(grouped(n), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    proptest! {
        #[test]
        fn shown_text_is_bounded_and_harmless(text in any::<String>(), max in 1usize..300) {
            let safe = shown(&text, max);
            prop_assert!(safe.chars().count() <= max);
            prop_assert!(!safe.chars().any(is_dangerous));
        }

        #[test]
        fn two_texts_never_look_alike(
            one in r"[a\\u{}1b\x1b<]{0,8}", two in r"[a\\u{}1b\x1b<]{0,8}"
        ) {
            prop_assert_eq!(one == two, shown(&one, NAME_MAX) == shown(&two, NAME_MAX));
        }
    }
}
