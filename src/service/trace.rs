//! W3C Trace Context, level 1: which trace a call belongs to, as two metadata values.
//!
//! ```text
//!   traceparent   00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>
//!   tracestate    vendor=opaque,vendor2@tenant=opaque                       at most 32 members
//! ```
//!
//! Invariants: ids are never zero; what is malformed is not half taken: a bad `traceparent` begins
//! a new trace and its `tracestate` is not looked at, a bad `tracestate` alone is dropped. Hex is
//! lower case. A higher version is read as far as this one goes, and sent on as version 00.
//! The text: <https://www.w3.org/TR/trace-context-1/>.

use crate::service::Metadata;

/// Where a call stands in a trace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    is_sampled: bool,
    /// What vendors have said, checked; may be empty.
    state: String,
}

impl TraceContext {
    /// The metadata name of [`TraceContext::traceparent`].
    pub const TRACEPARENT: &'static str = "traceparent";
    /// The metadata name of [`TraceContext::state`].
    pub const TRACESTATE: &'static str = "tracestate";

    /// The root of a new trace; ids of zero, which mean nothing, become 1.
    #[must_use]
    pub fn new(trace: u128, span: u64, is_sampled: bool) -> Self {
        Self { trace: trace.max(1), span: span.max(1), is_sampled, state: String::new() }
    }

    /// A part of the same trace.
    #[must_use]
    pub fn child(&self, span: u64) -> Self {
        Self { span: span.max(1), ..self.clone() }
    }

    /// What a caller sent, if it makes sense.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata) -> Option<Self> {
        let mut parents = metadata.iter().filter(|(name, _)| *name == Self::TRACEPARENT);
        let (Some((_, parent)), None) = (parents.next(), parents.next()) else { return None };
        let mut context = Self::parse(parent)?;
        let states = metadata.iter().filter(|(name, _)| *name == Self::TRACESTATE);
        // Several are one list, in their order.
        let states: Vec<&[u8]> = states.map(|(_, value)| value).collect();
        context.state = parse_state(&states.join(&b","[..])).unwrap_or_default();
        Some(context)
    }

    /// Reads a `traceparent`.
    #[must_use]
    pub fn parse(parent: &[u8]) -> Option<Self> {
        let (known, rest) = parent.split_at_checked(PARENT_BYTES)?;
        let fields: Vec<&[u8]> = known.split(|byte| *byte == b'-').collect();
        let [version, trace, span, flags] = fields.as_slice() else { return None };
        let sizes = [version.len(), trace.len(), span.len(), flags.len()];
        let version = hex(version)?;
        // What a higher version adds stands behind another dash.
        let is_whole = rest.is_empty() || (version > 0 && rest.starts_with(b"-"));
        if sizes != [2, 32, 16, 2] || version == 0xff || !is_whole {
            return None;
        }
        let (trace, span) = (hex(trace)?, u64::try_from(hex(span)?).ok()?);
        let is_sampled = hex(flags)? & SAMPLED != 0;
        (trace != 0 && span != 0).then(|| Self::new(trace, span, is_sampled))
    }

    /// `00-<trace id>-<span id>-<flags>`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.is_sampled);
        format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }

    /// The `tracestate` as it is sent on; may be empty.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The trace; not 0.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace
    }

    /// The part of it; not 0.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span
    }

    /// Whether the caller may have recorded it.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }
}

/// Lower-case hex of at most 32 digits.
fn hex(digits: &[u8]) -> Option<u128> {
    let is_hex = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u128::from_str_radix(text, 16).ok()
}

/// Checks a `tracestate`; empty members are left out, as the text allows.
fn parse_state(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let blank = [' ', '\t'];
    let members = value.split(',').map(|member| member.trim_matches(blank));
    let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    let mut keys: Vec<&str> = Vec::new(); // So few that looking through them is the least.
    let is_sound = members.len() <= MEMBERS_MAX
        && members.iter().all(|member| {
            let Some((key, value)) = member.split_once('=') else { return false };
            let is_new = !keys.contains(&key);
            keys.push(key);
            is_key(key) && is_value(value) && is_new
        });
    is_sound.then(|| members.join(","))
}

/// `lcalpha 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" )`, or `tenant@system` of 241 and 14.
fn is_key(key: &str) -> bool {
    let rest = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let part = |part: &str, max: usize, may_begin: fn(&u8) -> bool| {
        let begins = part.as_bytes().first().is_some_and(may_begin);
        begins && part.len() <= max && part.bytes().all(rest)
    };
    match key.split_once('@') {
        None => part(key, 256, u8::is_ascii_lowercase),
        Some((tenant, system)) => {
            let may_begin = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            part(tenant, 241, may_begin) && part(system, 14, u8::is_ascii_lowercase)
        }
    }
}

/// 1 to 256 printable ASCII characters but comma and equals sign, the last no blank.
fn is_value(value: &str) -> bool {
    let allowed = |byte| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(allowed) && !value.ends_with(' ')
}

/// `version-trace-span-flags`.
const PARENT_BYTES: usize = 55;
/// Of the flags; the others say nothing in level 1.
const SAMPLED: u128 = 1;
/// Members of a `tracestate`, at most.
const MEMBERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::MetadataBlock;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn state(value: &str) -> Option<String> {
        parse_state(value.as_bytes())
    }

    /// The examples of the text (3.2.2.3 and 3.2.2.5), read and written again.
    #[test]
    fn the_examples_of_the_text_are_read() {
        for (sampled, flags) in [(true, "01"), (false, "00")] {
            let parent = format!("{}{flags}", &PARENT[..53]);
            let context = TraceContext::parse(parent.as_bytes()).unwrap();
            assert_eq!(context.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert_eq!((context.span_id(), context.is_sampled()), (0x00f0_67aa_0ba9_02b7, sampled));
            assert_eq!(context.traceparent(), parent);
        }
        let child = TraceContext::parse(PARENT.as_bytes()).unwrap().child(2);
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01");
    }

    /// 3.2.2: each field at fault is refused; a higher version is read as far as it is known.
    #[test]
    fn a_malformed_traceparent_is_none() {
        let good = |parent: &str| TraceContext::parse(parent.as_bytes()).is_some();
        assert!(good(PARENT));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ] {
            assert!(!good(bad), "{bad}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09";
        assert!(good(later) && good(&format!("{later}-what-comes")));
        assert_eq!(TraceContext::parse(later.as_bytes()).unwrap().traceparent(), PARENT);
    }

    /// 3.3: keys, values and the number of members are judged, on both sides of each limit.
    #[test]
    fn a_malformed_tracestate_is_none() {
        let long = |bytes: usize| "a".repeat(bytes);
        let list = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("k{n}=v")).collect();
            members.join(",")
        };
        for (value, kept) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", None),
            ("fw529a3039@dt=FfAz,1a@b=c", None),
            (" rojo=1\t, ,congo= 2 ", Some("rojo=1,congo= 2")),
            (&format!("{}={}", long(256), long(256)), None),
            (&format!("{}@{}=v", long(241), long(14)), None),
            (&list(32), None),
            ("", None),
        ] {
            assert_eq!(state(value).as_deref(), Some(kept.unwrap_or(value)), "{value:?}");
        }
        for bad in [
            "rojo",
            "=v",
            "k=",
            "Rojo=1",
            "1rojo=1",
            "a@1b=1",
            "a b=1",
            "a=1,a=2",
            "a=1=2",
            "a=\u{e9}",
            &format!("{}=v", long(257)),
            &format!("k={}", long(257)),
            &format!("{}@{}=v", long(242), long(14)),
            &format!("{}@{}=v", long(241), long(15)),
            &list(33),
        ] {
            assert_eq!(state(bad), None, "{bad:?}");
        }
    }

    /// 3.3: a bad state does not touch the parent, a bad parent takes the state along; several
    /// states are one list, several parents are none.
    #[test]
    fn parent_and_state_are_judged_apart() {
        let read = |pairs: &[(&str, &str)]| {
            let mut block = MetadataBlock::new();
            for (name, value) in pairs {
                block.push(name, value.as_bytes()).unwrap();
            }
            TraceContext::from_metadata(&Metadata::from_ext(block.as_bytes()))
        };
        let state = |pairs: &[(&str, &str)]| read(pairs).map(|context| context.state);
        let parent = ("traceparent", PARENT);
        let text = |text: &str| Some(text.to_owned());

        assert_eq!(state(&[parent]), text(""));
        assert_eq!(state(&[("tracestate", "a=1"), parent, ("tracestate", "b=2")]), text("a=1,b=2"));
        assert_eq!(state(&[parent, ("tracestate", "A=1")]), text(""));
        assert_eq!(state(&[parent, ("tracestate", "a=1"), ("tracestate", "a=2")]), text(""));
        assert_eq!(state(&[("traceparent", "00-0"), ("tracestate", "a=1")]), None);
        assert_eq!(state(&[parent, parent]), None);
        assert_eq!(state(&[("tracestate", "a=1")]), None);
    }
}
