//! Declares a section of the configuration: each option's type, default and description stand once, side by side.
//!
//! The macro writes the struct, its `Default` (the only place of defaults) and the list of descriptions that
//! `config print` and `config explain` show.

/// Declares a section struct; see `model.rs` for its use.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr , )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])+ pub(crate) $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            /// What the section is about, one line each.
            pub(crate) const ABOUT: &'static [&'static str] = &[$($about),+];
            /// Its options in order, each with the lines of its description.
            pub(crate) const OPTIONS: &'static [(&'static str, &'static [&'static str])] =
                &[$( (stringify!($field), &[$($doc),+]) ),*];
        }
    };
}

pub(crate) use section;
