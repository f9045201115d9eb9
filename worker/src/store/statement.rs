//! How a hot statement is written: one SQL text with a fixed number of typed array binds, whatever the batch size.
//!
//! diesel never caches a prepared `update`, `do_update` or `sql_query`; a type of its own with a static query id is
//! prepared once per connection and costs one round trip from then on.

use diesel::result::Error;
use serde::Serialize;

/// Defines `struct NAME` whose fields are binds, and its SQL: `BEFORE (SELECT unnest($1), unnest($2), ..) AFTER`.
///
/// All arrays are of one length. `FROM unnest($1, $2, ..)` gives the same rows, but PostgreSQL then stores each column before it
/// reads the first row: four times the processor time for the ledger's 21.
macro_rules! set_statement {
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> ( $($field:ident : $sql_type:ty = $rust_type:ty),+ $(,)? ) -> $row:ty {
            $before:tt
            $after:tt
        }
    ) => {
        $(#[$doc])*
        struct $name<$life> {
            $($field: $rust_type,)+
            life: std::marker::PhantomData<&$life ()>,
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                out.push_sql($before);
                let mut before_bind = " (SELECT unnest(";
                $(
                    out.push_sql(std::mem::replace(&mut before_bind, "), unnest("));
                    out.push_bind_param::<$sql_type, _>(&self.$field)?;
                )+
                debug_assert_eq!(before_bind, "), unnest(");
                out.push_sql(")) ");
                out.push_sql($after);
                Ok(())
            }
        }

        impl diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::Query for $name<'_> {
            type SqlType = $row;
        }
    };
}

pub(super) use set_statement;

/// JSON for a bind of type text: PostgreSQL parses it in any case, so it travels as text.
///
/// # Errors
/// What cannot be JSON; our own types can.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::SerializationError(Box::new(error)))
}
