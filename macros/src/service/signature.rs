//! A method's signature: `async fn name(&self, cx: &Cx, req: Request) -> Response`.
//!
//! Invariants: types on the wire are owned and name neither `Self` nor a lifetime other than
//! `'static`, since they are repeated where neither exists. Return types are judged by their text:
//!
//! ```text
//!   Result<T, E>        fallible: E travels        Result<T, Status>   T, or a status
//!   Result<T>           refused: E is hidden       anything else       infallible
//! ```

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Pat, PatType, PathArguments, PathSegment, ReceiverKind,
    ReturnType, Safety, Signature, Type,
};

use crate::service::errors::Errors;
use crate::service::parse::RunArg;

/// What a method takes and gives.
pub(crate) struct Shape {
    /// The request's name.
    pub(crate) argument: Ident,
    pub(crate) request: Type,
    pub(crate) output: Output,
}

/// What a method gives, by the text of its return type.
#[expect(clippy::large_enum_variant, reason = "one of each method, gone after expansion")]
pub(crate) enum Output {
    /// `T`
    Plain(Type),
    /// `Result<T, E>`
    Fallible(Type, Type),
    /// `Result<T, Status>`
    OrStatus(Type),
}

impl Output {
    pub(crate) const fn response(&self) -> &Type {
        match self {
            Self::Plain(response) | Self::Fallible(response, _) | Self::OrStatus(response) => {
                response
            }
        }
    }

    /// The method's own error, if it has one.
    pub(crate) const fn error(&self) -> Option<&Type> {
        match self {
            Self::Fallible(_, error) => Some(error),
            Self::Plain(_) | Self::OrStatus(_) => None,
        }
    }
}

/// Checks a signature, for a handler that runs there. Without `run`, whether it is `async` is not
/// judged: what it should be is not known.
pub(crate) fn check(signature: &Signature, run: Option<RunArg>) -> Result<Shape, Error> {
    let mut errors = Errors::default();
    check_qualifiers(signature, &mut errors);
    match (run, signature.asyncness) {
        (Some(RunArg::Blocking), Some(token)) => errors.at(
            token.span,
            "a `blocking` method is a plain `fn`: it has a thread to itself and must not await",
        ),
        (Some(RunArg::Inline | RunArg::Spawn), None) => errors.at(
            signature.fn_token.span,
            "a method is an `async fn`, or has `blocking` in its #[rpc(...)]",
        ),
        _ => {}
    }
    let arguments = errors.keep(check_arguments(signature));
    let output = errors.keep(output_of(&signature.output));
    let shape = arguments.zip(output).map(|((argument, request), output)| {
        for of_type in [Some(&request), Some(output.response()), output.error()] {
            of_type.map(|of_type| errors.keep(check_owned(of_type)));
        }
        Shape { argument, request, output }
    });
    errors.or(())?;
    Ok(shape.expect("what is missing has left an error"))
}

/// Refuses types that cannot be repeated outside of the trait, or not be decoded.
pub(crate) fn check_owned(of_type: &Type) -> Result<(), Error> {
    let mut previous = None;
    check_tokens(of_type.to_token_stream(), &mut previous)
}

fn check_tokens(tokens: TokenStream, previous: &mut Option<char>) -> Result<(), Error> {
    for token in tokens {
        let next = match &token {
            TokenTree::Group(group) => {
                check_tokens(group.stream(), &mut None)?;
                None
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                return Err(Error::new(punct.span(), NOT_OWNED));
            }
            TokenTree::Punct(punct) => Some(punct.as_char()),
            TokenTree::Ident(ident) if *previous == Some('\'') => {
                if ident != "static" {
                    return Err(Error::new(ident.span(), NOT_OWNED));
                }
                None
            }
            TokenTree::Ident(ident) if ident == "Self" => {
                let message = "name the type itself: the client has no `Self` of the handler's";
                return Err(Error::new(ident.span(), message));
            }
            TokenTree::Ident(ident) if ident == "impl" || ident == "dyn" || ident == "_" => {
                let message = "a type on the wire is named: the other side must have the same";
                return Err(Error::new(ident.span(), message));
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => None,
        };
        *previous = next;
    }
    Ok(())
}

fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    if let Some(token) = &signature.constness {
        errors.at(token.span, "a method of a service is not `const`");
    }
    match &signature.safety {
        Safety::Safe(token) => errors.at(token.span, "a method of a service is not `safe`"),
        Safety::Unsafe(token) => {
            errors.at(token.span, "a method of a service is not `unsafe`: anyone calls it");
        }
        Safety::Default => {}
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi.span(), "a method of a service has no `extern`");
    }
    if !signature.generics.params.is_empty() {
        let message = "a method of a service has neither type parameters nor lifetimes: what \
                       travels has one fixed type for each version";
        errors.push(Error::new_spanned(&signature.generics.params, message));
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.at(clause.span(), "a method of a service has no `where`");
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic.span(), "a method of a service has no `...`");
    }
}

fn check_arguments(signature: &Signature) -> Result<(Ident, Type), Error> {
    let mut errors = Errors::default();
    let mut inputs = signature.inputs.iter().peekable();
    match inputs.next_if(|input| matches!(input, FnArg::Receiver(_))) {
        Some(FnArg::Receiver(receiver)) => {
            if !matches!(receiver.kind, ReceiverKind::Reference(_, None, None)) {
                let message = "a handler is shared by all calls: `&self`";
                errors.push(Error::new_spanned(receiver, message));
            }
        }
        _ => errors.at(signature.ident.span(), SHAPE),
    }
    let typed: Vec<&PatType> = inputs
        .filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        })
        .collect();
    let request = match typed.as_slice() {
        [cx, request] => {
            if !is_cx(&cx.ty) {
                errors.push(Error::new_spanned(
                    &cx.ty,
                    format!("the first argument is `&Cx`; {SHAPE}"),
                ));
            }
            Some(*request)
        }
        [_, _, third, ..] => {
            let message = "one request for each method: put the arguments into a struct, which \
                           can grow in the next version";
            errors.push(Error::new_spanned(third, message));
            None
        }
        [only] if !is_cx(&only.ty) => {
            errors.push(Error::new_spanned(
                only,
                format!("`&Cx` is missing before the request; {SHAPE}"),
            ));
            None
        }
        [_] | [] => {
            errors.at(signature.ident.span(), format!("the request is missing; {SHAPE}"));
            None
        }
    };
    let request = request.and_then(|request| {
        let argument = errors.keep(argument_of(&request.pat))?;
        Some((argument, (*request.ty).clone()))
    });
    errors.or(())?;
    Ok(request.expect("what is missing has left an error"))
}

fn argument_of(pattern: &Pat) -> Result<Ident, Error> {
    match pattern {
        Pat::Ident(named)
            if named.by_ref.is_none() && named.mutability.is_none() && named.subpat.is_none() =>
        {
            Ok(named.ident.clone())
        }
        Pat::Wild(wild) => Ok(Ident::new("request", wild.span())),
        other => Err(Error::new(other.span(), "the request has a plain name")),
    }
}

fn is_cx(of_type: &Type) -> bool {
    match of_type {
        Type::Reference(reference) => {
            reference.lifetime.is_none()
                && reference.mutability.is_none()
                && last_segment(&reference.elem)
                    .is_some_and(|last| last.ident == "Cx" && last.arguments.is_none())
        }
        Type::Group(group) => is_cx(&group.elem),
        Type::Paren(paren) => is_cx(&paren.elem),
        _ => false,
    }
}

fn output_of(output: &ReturnType) -> Result<Output, Error> {
    let of_type = match output {
        ReturnType::Default => return Ok(Output::Plain(syn::parse_quote!(()))),
        ReturnType::Type(_, of_type) => &**of_type,
    };
    let Some(result) = last_segment(of_type).filter(|last| last.ident == "Result") else {
        return Ok(Output::Plain(of_type.clone()));
    };
    let (response, error) = match arguments_of(result).as_slice() {
        [response, error] => ((*response).clone(), (*error).clone()),
        [] | [_] => return Err(Error::new_spanned(of_type, HIDDEN_ERROR)),
        [_, _, third, ..] => {
            let message = "`Result` with more than two arguments: which one is the error?";
            return Err(Error::new(third.span(), message));
        }
    };
    let is_named = |name: &str| last_segment(&error).is_some_and(|last| last.ident == name);
    if is_named("Status") {
        return Ok(Output::OrStatus(response));
    }
    if is_named("Infallible") {
        let message = "a method that cannot fail returns its response, without a `Result`";
        return Err(Error::new_spanned(error, message));
    }
    Ok(Output::Fallible(response, error))
}

fn arguments_of(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(of_type) => Some(of_type),
        _ => None,
    });
    types.collect()
}

/// `Status` of `switchback::Status`.
pub(crate) fn last_segment(of_type: &Type) -> Option<&PathSegment> {
    match of_type {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// The text that tells two types apart, as far as a macro can.
pub(crate) fn text_of(of_type: &Type) -> String {
    of_type.to_token_stream().to_string()
}

/// The same tokens, for errors to be reported there.
pub(crate) fn moved_to(span: Span, of_type: &Type) -> TokenStream {
    respanned(span, of_type.to_token_stream())
}

fn respanned(span: Span, tokens: TokenStream) -> TokenStream {
    let moved = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => {
            let mut moved = Group::new(group.delimiter(), respanned(span, group.stream()));
            moved.set_span(span.resolved_at(group.span()));
            TokenTree::Group(moved)
        }
        mut leaf => {
            // The place changes, what its names mean does not.
            leaf.set_span(span.resolved_at(leaf.span()));
            leaf
        }
    });
    moved.collect()
}

/// A name for a local of generated code, which the user's code cannot see.
pub(crate) fn hidden(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

const SHAPE: &str = "a method is `async fn name(&self, cx: &Cx, req: Request) -> Response`";
const NOT_OWNED: &str = "a type on the wire is owned: what is decoded has nothing to borrow from";
const HIDDEN_ERROR: &str = "this `Result` hides its error, which is a part of the contract: write \
                            `Result<Response, Error>` with both, not an alias";

#[cfg(test)]
mod tests {
    use super::*;

    use syn::parse_quote;

    /// `response` or `response!error`, as in the method's schema; or what is wrong.
    fn output(text: &str) -> Result<String, String> {
        let output = syn::parse_str(text).unwrap();
        match output_of(&output) {
            Ok(Output::Plain(response)) => Ok(text_of(&response)),
            Ok(Output::OrStatus(response)) => Ok(format!("{}!status", text_of(&response))),
            Ok(Output::Fallible(response, error)) => {
                Ok(format!("{}!{}", text_of(&response), text_of(&error)))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn shape(signature: &Signature) -> Result<(), Vec<String>> {
        match check(signature, Some(RunArg::Inline)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into_iter().map(|e| e.to_string()).collect()),
        }
    }

    /// The text of the return type decides, wherever `Result` and `Status` are imported from.
    #[test]
    fn return_types_are_read_from_their_text() {
        for (text, expected) in [
            ("", "()"),
            ("-> A", "A"),
            ("-> Vec<A>", "Vec < A >"),
            ("-> Result<A, B>", "A!B"),
            ("-> std::result::Result<A, B>", "A!B"),
            ("-> (Result<A, B>)", "A!B"),
            ("-> Result<A, Status>", "A!status"),
            ("-> Result<A, switchback::Status>", "A!status"),
        ] {
            assert_eq!(output(text).as_deref(), Ok(expected), "{text}");
        }
    }

    /// An alias hides the error; one that cannot be is no error.
    #[test]
    fn return_types_that_say_too_little_are_refused() {
        assert_eq!(output("-> Result<A>"), Err(HIDDEN_ERROR.into()));
        assert_eq!(output("-> io::Result<A>"), Err(HIDDEN_ERROR.into()));
        assert_eq!(output("-> Result"), Err(HIDDEN_ERROR.into()));
        assert!(output("-> Result<A, B, C>").is_err());
        assert!(output("-> Result<A, Infallible>").is_err());
    }

    /// Everything that is wrong with one signature is said at once.
    #[test]
    fn signatures_report_all_at_once() {
        let errors = shape(&parse_quote!(
            const fn f<T>(&mut self, cx: &mut Cx, req: Q) -> Result<R>
        ))
        .unwrap_err();

        assert_eq!(errors.len(), 6, "{errors:#?}");
    }

    /// The shapes that are right.
    #[test]
    fn signatures_that_pass() {
        assert_eq!(shape(&parse_quote!(async fn f(&self, cx: &Cx, req: Q))), Ok(()));
        assert_eq!(shape(&parse_quote!(async fn f(&self, _: &switchback::Cx, _: Q))), Ok(()));
        let owned: Signature = parse_quote!(async fn f(&self, cx: &Cx, q: Cow<'static, str>));
        assert_eq!(shape(&owned), Ok(()));
        let blocking: Signature = parse_quote!(fn f(&self, cx: &Cx, req: Q) -> R);
        assert!(check(&blocking, Some(RunArg::Blocking)).is_ok());
    }

    /// What cannot travel or cannot be named elsewhere is refused, however deep it stands.
    #[test]
    fn types_that_do_not_travel_are_refused() {
        for wrong in ["&str", "Vec<&'static str>", "(A, [Cow<'a, str>; 2])", "Self::Item", "Vec<_>"]
        {
            let of_type: Type = syn::parse_str(wrong).unwrap();
            assert!(check_owned(&of_type).is_err(), "{wrong}");
        }
    }

    /// A missing or surplus argument is named.
    #[test]
    fn arguments_are_three() {
        for wrong in [
            parse_quote!(async fn f(cx: &Cx, req: Q)),
            parse_quote!(async fn f(&self)),
            parse_quote!(async fn f(&self, cx: &Cx)),
            parse_quote!(async fn f(&self, req: Q)),
            parse_quote!(async fn f(&self, cx: Cx, req: Q)),
            parse_quote!(async fn f(&self, cx: &Cx, a: Q, b: Q)),
            parse_quote!(async fn f(&self, cx: &Cx, (a, b): Q)),
            parse_quote!(async fn f(self, cx: &Cx, req: Q)),
        ] {
            assert_eq!(shape(&wrong).unwrap_err().len(), 1);
        }
    }
}
